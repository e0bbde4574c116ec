"""Who may reach which upstream: a view of the rows in memory, current or not believed at all."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import Sessions
from leasing.model import Lease, Member, Run, Token, TokenKind, User
from leasing.schema.endpoint import PLAIN, EndpointOptions
from leasing.states import LeaseState, ProjectRole, Role

log = logging.getLogger(__name__)
KINDS = (TokenKind.API, TokenKind.SESSION, TokenKind.ENDPOINT, TokenKind.LEASE)
ENDED_SHOWN = 500
"""So many ended leases are remembered, to say why an endpoint is gone."""


@dataclass(frozen=True)
class Visitor:
    """Who a secret stands for. `lease_id` narrows it to one lease."""

    token_id: UUID
    user_id: UUID
    name: str
    admin: bool
    lease_id: UUID | None
    expires_at: datetime | None
    roles: Mapping[UUID, ProjectRole] = field(default_factory=dict, hash=False)
    """In each project that the user belongs to."""


@dataclass(frozen=True)
class Target:
    """A lease's endpoint, as it stands."""

    lease_id: UUID
    name: str
    owner_id: UUID
    project_id: UUID
    shared: bool
    """With the members of its project."""
    state: str
    message: str
    port: int | None
    address: str | None
    generation: int | None = None
    """Of its run: another one is another container. None while it has none."""
    suspend_reason: str | None = None
    endpoint: EndpointOptions = PLAIN


@dataclass(frozen=True)
class View:
    """Everything at one moment."""

    visitors: Mapping[bytes, Visitor]
    """By the SHA-256 of each secret; some may have expired meanwhile."""
    targets: Mapping[str, Target]
    """By the lease's name."""
    snapshot: str = ""
    """That moment, as PostgreSQL names it (`pg_snapshot`)."""


class Grants:
    """The view, read anew on every hint and every poll. Denies until it is loaded and while it may be out of date."""

    def __init__(self, sessions: Sessions, stale_seconds: float) -> None:
        self._sessions = sessions
        self._stale = stale_seconds
        self._lock = threading.Lock()
        self._view = View({}, {})
        self._confirmed_at = float("-inf")
        self._followers: list[Callable[[View], None]] = []

    @property
    def view(self) -> View:
        """As last read. Never changed, only replaced."""
        return self._view

    def on_load(self, follower: Callable[[View], None]) -> None:
        """Have `follower` called with every view that is read, also one that equals the last, before it counts as in
        force: whoever keeps a copy brings it up to date there, and cuts what streams for those who no longer may.

        It is called in the thread that loads, one view after the other. While it raises, the view is not confirmed:
        the next load calls it again, and until one succeeds the grants go out of date.
        """
        self._followers.append(follower)

    def load(self) -> None:
        """Read it. Of two at once, the later reader waits, so an older view never replaces a newer one."""
        with self._lock:
            began = time.monotonic()
            with self._sessions() as session:
                self._view = View(_visitors(session), _targets(session))
            for follower in self._followers:
                follower(self._view)
            self._confirmed_at = began

    @property
    def current(self) -> bool:
        """Whether it may be acted on."""
        return time.monotonic() - self._confirmed_at <= self._stale

    def visitor(self, secret: str, now: datetime) -> Visitor | None:
        found = self._view.visitors.get(hashlib.sha256(secret.encode()).digest())
        return found if found and (found.expires_at is None or found.expires_at > now) else None

    def target(self, name: str) -> Target | None:
        return self._view.targets.get(name)

    def running(self) -> list[UUID]:
        """Leases that have an endpoint now."""
        return [target.lease_id for target in self.listening()]

    def listening(self) -> list[Target]:
        """Endpoints of running leases."""
        return [
            target
            for target in self._view.targets.values()
            if target.state == LeaseState.RUNNING and target.port is not None
        ]


def _visitors(session: Session) -> dict[bytes, Visitor]:
    roles: dict[UUID, dict[UUID, ProjectRole]] = {}
    for user_id, project_id, role in session.execute(
        sa.select(Member.user_id, Member.project_id, Member.role)
    ):
        roles.setdefault(user_id, {})[project_id] = ProjectRole(role)
    rows = session.execute(
        sa.select(Token.hash, Token.id, User.id, User.name, User.role, Token.lease_id, Token.expires_at)
        .join(User, User.id == Token.user_id)
        .where(
            Token.kind.in_(KINDS),
            Token.revoked_at.is_(None),
            User.disabled_at.is_(None),
            sa.or_(Token.expires_at.is_(None), Token.expires_at > sa.func.now()),
        )
    )
    return {
        bytes(secret): Visitor(
            token_id, user_id, name, role == Role.ADMIN, lease_id, expires_at, roles.get(user_id, {})
        )
        for secret, token_id, user_id, name, role, lease_id, expires_at in rows
    }


def _targets(session: Session) -> dict[str, Target]:
    columns = (
        Lease.id, Lease.name, Lease.owner_id, Lease.project_id, Lease.shared, Lease.state, Lease.message, Lease.port,
        Lease.suspend_reason, Lease.endpoint,
    )  # fmt: skip
    ended = session.execute(
        sa.select(*columns, sa.null(), sa.null())
        .where(Lease.state == LeaseState.ENDED)
        .order_by(Lease.ended_at.desc())
        .limit(ENDED_SHOWN)
    ).all()
    live = session.execute(
        sa.select(*columns, Run.address, Run.generation)
        .outerjoin(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
        .where(Lease.state != LeaseState.ENDED)
    ).all()
    # oldest first, so that the newest lease of a name stays, and a live one always
    return {row[1]: _target(row) for row in (*reversed(ended), *live)}


def _target(row: sa.Row[Any]) -> Target:
    *own, suspend_reason, endpoint, address, generation = row
    return Target(*own, address, generation, suspend_reason, EndpointOptions.model_validate(endpoint))
