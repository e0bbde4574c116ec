"""Who may reach which upstream: a view of the rows in memory, current or not believed at all."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from api.gateway.rows import Changes, Rows
from leasing.database import Sessions
from leasing.errors import Unavailable
from leasing.schema.endpoint import PLAIN, EndpointOptions
from leasing.service import parts
from leasing.states import LeaseState, ProjectRole

ROLE = "gateway"
"""Of this process among the platform's."""


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
    started: int = 0
    """When its container was, in seconds since 1970; 0 while it has none."""
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

    def __init__(self, sessions: Sessions, stale_seconds: float, part_id: UUID | None = None) -> None:
        """`part_id`: under which this process tells the others what it acts on; None: nobody waits for it."""
        self._sessions = sessions
        self._stale = stale_seconds
        self._part_id = part_id
        self._assembly = _Assembly()
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

        It is called in the thread that loads, one view after the other. While it raises (`Unavailable`, `OSError`), the
        view is not confirmed: the next load calls it again, and until one succeeds the grants go out of date.
        """
        self._followers.append(follower)

    def load(self) -> None:
        """Read it. Of two at once, the later reader waits, so an older view never replaces a newer one.

        Raises `SQLAlchemyError`, and `Unavailable` while whoever follows cannot.
        """
        with self._lock:
            began = time.monotonic()
            with self._session() as session:
                self._view = view = self._assembly.read(session)
            try:
                for follower in self._followers:
                    follower(view)
            except OSError as error:
                raise Unavailable(f"What follows the grants does not: {error}.") from error
            if self._part_id is not None:
                with self._session() as session:
                    parts.confirm(session, self._part_id, ROLE, view.snapshot)
            self._confirmed_at = began

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """Each statement is a transaction: one trip to the server, not three, and a busy process waits at each."""
        with self._sessions() as session:
            session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            yield session

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

    def wakeable(self) -> list[UUID]:
        """Leases that calls may wake."""
        return [target.lease_id for target in self._view.targets.values() if target.endpoint.wake]

    def listening(self) -> list[Target]:
        """Endpoints of running leases."""
        return [
            target
            for target in self._view.targets.values()
            if target.state == LeaseState.RUNNING and target.port is not None
        ]


class _Assembly:
    """The view that follows from the rows, changed where they changed: what stays equal stays the same object."""

    def __init__(self) -> None:
        self._rows = Rows()
        self._secrets: dict[UUID, bytes] = {}
        self._by_lease: dict[UUID, Target] = {}
        self.view = View({}, {})

    def read(self, session: Session) -> View:
        self._rows.read(session)
        changes = self._rows.changes
        visitors, targets = self.view.visitors, self.view.targets
        if changes.tokens or changes.users:
            visitors = self._visitors(changes)
        if changes.leases:
            targets = self._targets(changes)
        self.view = View(visitors, targets, self._rows.snapshot)
        self._rows.changes = Changes()
        return self.view

    def _visitors(self, changes: Changes) -> dict[bytes, Visitor]:
        tokens, found = self._rows.tokens, dict(self.view.visitors)
        theirs = {key for key, row in tokens.items() if row.user_id in changes.users}
        for key in changes.tokens | theirs:
            found.pop(self._secrets.pop(key, b""), None)
            row = tokens.get(key)
            user = self._rows.users.get(row.user_id) if row else None
            if row is None or user is None or not user.enabled:
                continue
            self._secrets[key] = row.hash
            theirs_in = self._rows.roles.get(row.user_id, {})
            found[row.hash] = Visitor(
                key, row.user_id, user.name, user.admin, row.lease_id, row.expires_at, theirs_in
            )
        return found

    def _targets(self, changes: Changes) -> dict[str, Target]:
        rows = self._rows
        for key in changes.leases:
            row = rows.live.get(key) or rows.ended.get(key)
            if row is None:
                self._by_lease.pop(key, None)
                continue
            self._by_lease[key] = Target(*row[:-1], EndpointOptions.model_validate(row.endpoint))
        # oldest first, so that the newest lease of a name stays, and a live one always
        return {target.name: target for target in (self._by_lease[key] for key in (*rows.ended, *rows.live))}
