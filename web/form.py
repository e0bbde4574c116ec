"""The form for a new lease: what was typed becomes a request, and a refusal is told beside the field it is about."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.orm import Session

from leasing.errors import Invalid, LeasingError
from leasing.model import Lease
from leasing.schema.cluster import EnvironmentOut
from leasing.schema.lease import LeaseRequest
from leasing.service import environments, requesting
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import Priority
from web.refusals import Refused, blamed, trial, words

DEPENDS = {"priority": ("project",)}
"""Fields whose rule is another's: the highest class is the project's."""


class Typed(BaseModel):
    """Every field as it was typed; empty is "the default"."""

    name: str = ""
    image: str = ""
    workspace: str = ""
    command: str = ""
    gpu: str = ""
    cpus: str = ""
    memory: str = ""
    ttl: str = ""
    idle: str = ""
    port: str = ""
    env: str = ""
    project: str = ""
    priority: str = ""
    share: str = ""
    preemptible: str = ""
    """Ticked or not, both."""
    once: str = Field(default_factory=lambda: secrets.token_urlsafe(12))
    """Sent along unseen: the same form sent twice asks once, a changed one asks anew."""

    def only(self, field: str) -> Typed:
        """As if nothing else had been filled in but what its rule depends on."""
        fields = (field, *DEPENDS.get(field, ()))
        return Typed.model_validate({one: getattr(self, one) for one in fields})

    def key(self) -> str:
        """For idempotency."""
        return f"form:{hashlib.sha256(self.model_dump_json().encode()).hexdigest()}"

    def request(self) -> LeaseRequest:
        """As the api takes it. Raises `Invalid`, `ValidationError`."""
        return LeaseRequest(
            name=self.name.strip() or None,
            image=self.image.strip() or None,
            command=["sh", "-c", self.command.replace("\r\n", "\n")] if self.command.strip() else None,
            gpu=self.gpu.strip() or "0",
            cpus=self.cpus.strip() or None,
            memory=self.memory.strip() or None,
            ttl=self.ttl.strip() or None,
            idle_timeout=self.idle.strip() or None,
            port=_port(self.port.strip()),
            workspace=self.workspace.strip() or None,
            env=_variables(self.env),
            project=self.project.strip() or "default",
            priority=Priority(self.priority) if self.priority in set(Priority) else Priority.NORMAL,
            share=bool(self.share),
            preemptible=bool(self.preemptible),
        )


def ask(
    session: Session,
    typed: Typed,
    *,
    principal: Principal,
    limits: LimitSettings,
    catalogue: Sequence[EnvironmentOut],
    now: datetime,
) -> Lease:
    """The lease that was asked for. Raises `Refused`."""
    try:
        with session.begin_nested():
            return requesting.request(
                session,
                environments.filled(typed.request(), catalogue),
                principal=principal,
                limits=limits,
                idempotency_key=typed.key(),
                now=now,
            )
    except (LeasingError, ValidationError) as error:
        whole = words(error)

    def alone(part: Typed) -> str:
        return trial(
            session,
            lambda: requesting.request(
                session, part.request(), principal=principal, limits=limits, idempotency_key=None, now=now
            ),
        )

    always = alone(Typed())
    filled = [field for field, value in typed if field != "once" and value.strip()]
    faults = blamed(filled, lambda field: _unlike(alone(typed.only(field)), always), DEPENDS)
    raise Refused(faults if whole in faults.values() else {"": whole} | faults)


def _unlike(said: str, always: str) -> str:
    """What is refused whatever is filled in is no field's fault."""
    return "" if said == always else said


def _port(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise Invalid(f"{text[:40]!r} is not a port.", hint="For example: 8000.")
    return int(text)


def _variables(text: str) -> dict[str, str]:
    found = {}
    for line in filter(str.strip, text.splitlines()):
        name, equals, value = line.partition("=")
        if not (equals and name.strip().isascii() and name.strip().isidentifier()):
            raise Invalid(f"{line[:40]!r} sets no variable.", hint="Write NAME=value, one a line.")
        found[name.strip()] = value
    return found
