"""The form that keeps a lease although it looks idle: what was typed becomes a keep, or is refused field by field."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from leasing.errors import LeasingError
from leasing.model import Lease
from leasing.schema.keep import KeepRequest
from leasing.service import keeps
from leasing.service.principal import Principal
from web.refusals import Refused, blamed, trial, words

TTL = "8h"
"""So long it is kept where nothing was typed."""


class Typed(BaseModel):
    """Both fields as they were typed; without a command, no time is the default, and with one, no limit."""

    ttl: str = ""
    command: str = ""

    def request(self) -> KeepRequest:
        """As the api takes it. Raises `ValidationError`."""
        command = self.command.strip() or None
        return KeepRequest(command=command, ttl=self.ttl.strip() or (None if command else TTL))


def ask(session: Session, lease: Lease, typed: Typed, *, principal: Principal, now: datetime) -> None:
    """Keep it from now on; another keep of it is replaced. The caller holds the row's lock. Raises `Refused`."""

    def keep(part: Typed) -> None:
        keeps.ask(session, lease, part.request(), principal=principal, now=now)

    try:
        with session.begin_nested():
            keep(typed)
    except (LeasingError, ValidationError) as error:
        whole = words(error)
    else:
        return

    def alone(part: Typed) -> str:
        return trial(session, lambda: keep(part))

    if always := alone(Typed()):
        raise Refused({"": always})
    parts = {"ttl": Typed(ttl=typed.ttl), "command": Typed(command=typed.command)}
    raise Refused(blamed(parts, lambda field: alone(parts[field]), {}) or {"": whole})
