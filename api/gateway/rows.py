"""The rows that grants follow from, as of one snapshot. What did not change since the last is not read again.

One statement reads all tables, so that they are of one moment. A row counts as changed if its `xmin` is not older than
the oldest transaction that was at work at the last snapshot: only such a row can be new since.
(`pg_visible_in_snapshot` would not do: it takes a subtransaction of one at work for one that had committed.) What a
table has lost shows by its count, which then differs from what is held: that table is read in full.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import Unavailable
from leasing.states import ProjectRole, Role

ENDED_SHOWN = 500
"""So many ended leases are remembered, to say why an endpoint is gone."""
XIDS = 2**32
"""Rows carry the low half of a transaction's id."""
READ = sa.text(Path(__file__).with_name("rows.sql").read_text()).bindparams(ended_shown=ENDED_SHOWN)
Row = TypeVar("Row")


class TokenRow(NamedTuple):
    """A token that was good when it was read."""

    hash: bytes
    user_id: UUID
    lease_id: UUID | None
    expires_at: datetime | None


class UserRow(NamedTuple):
    """A user, disabled or not."""

    name: str
    admin: bool
    enabled: bool


class LeaseRow(NamedTuple):
    """A lease with the place of its open run."""

    lease_id: UUID
    name: str
    owner_id: UUID
    project_id: UUID
    shared: bool
    state: str
    message: str
    port: int | None
    address: str | None
    generation: int | None
    suspend_reason: str | None
    started: int
    endpoint: dict[str, Any]


@dataclass
class Changes:
    """Keys of what is new, different or gone."""

    tokens: set[UUID] = field(default_factory=set)
    users: set[UUID] = field(default_factory=set)
    """Those with another role in some project included."""
    leases: set[UUID] = field(default_factory=set)


class Rows:
    """The tables, by key, as of `snapshot`. `changes` gathers until whoever acts on them has taken them."""

    def __init__(self) -> None:
        self.snapshot = ""
        self.changes = Changes()
        self.tokens: dict[UUID, TokenRow] = {}
        self.users: dict[UUID, UserRow] = {}
        self.roles: dict[UUID, dict[UUID, ProjectRole]] = {}
        """By user, then project."""
        self.live: dict[UUID, LeaseRow] = {}
        self.ended: dict[UUID, LeaseRow] = {}
        """The one that ended last comes last."""
        self._server = ""
        """Once it was started anew it may be another, or an older copy: with other transactions by the same numbers."""
        self._past: dict[str, str | None] = dict.fromkeys(("tokens", "users", "members", "leases"))

    def read(self, session: Session) -> None:
        """Bring all up to date. Raises `Unavailable` for rows that do not add up; the next read is then of all."""
        if self._lost(self._step(session)) and self._lost(self._step(session)):
            raise Unavailable("What the database says of who may come in does not add up; it is read anew.")

    def _step(self, session: Session) -> sa.Row[Any]:
        found = session.execute(READ, self._past).one()
        if found.server != self._server and any(self._past.values()):
            self._past = dict.fromkeys(self._past)
            found = session.execute(READ, self._past).one()
        self._server = found.server
        self._take_tokens(found.tokens or [], found.now)
        self._take_users(found.users or [])
        self._take_members(found.members or [])
        self._take_leases(found.live or [], found.ended or [])
        self.snapshot = found.snapshot
        oldest = str(int(self.snapshot.partition(":")[0]) % XIDS)
        self._past = dict.fromkeys(self._past, oldest)
        return found

    def _lost(self, found: sa.Row[Any]) -> bool:
        """Whether more is held of a table than it has: that one is to be read in full."""
        roles = sum(len(one) for one in self.roles.values())
        runs = sum(one.generation is not None for one in self.live.values())
        for table, differs in (
            ("tokens", len(self.tokens) != found.token_count),
            ("users", len(self.users) != found.user_count),
            ("members", roles != found.member_count),
            ("leases", (len(self.live), runs) != (found.live_count, found.run_count)),
        ):
            if differs:
                self._past[table] = None
        return None in self._past.values()

    def _take_tokens(self, rows: list[list[Any]], now: datetime) -> None:
        whole = self._past["tokens"] is None
        self.tokens = _merged(self.tokens, map(_token, rows), whole, self.changes.tokens)
        for key in [key for key, row in self.tokens.items() if row.expires_at and row.expires_at <= now]:
            self.changes.tokens.add(key)
            del self.tokens[key]

    def _take_users(self, rows: list[list[Any]]) -> None:
        found = (
            (UUID(user_id), UserRow(name, role == Role.ADMIN, enabled))
            for user_id, name, role, enabled in rows
        )
        self.users = _merged(self.users, found, self._past["users"] is None, self.changes.users)

    def _take_members(self, rows: list[list[Any]]) -> None:
        whole = self._past["members"] is None
        roles: dict[UUID, dict[UUID, ProjectRole]] = {}
        for user_id, project_id, role in rows:
            key = UUID(user_id)
            own = roles.setdefault(key, {} if whole else dict(self.roles.get(key, {})))
            own[UUID(project_id)] = ProjectRole(role)
        self.roles = _merged(self.roles, roles.items(), whole, self.changes.users)

    def _take_leases(self, live: list[list[Any]], ended: list[list[Any]]) -> None:
        whole, changed = self._past["leases"] is None, self.changes.leases
        self.live = _merged(self.live, map(_lease, live), whole, changed)
        self.ended = _merged(self.ended, map(_lease, ended), whole, changed)
        for key in changed & self.ended.keys():
            self.live.pop(key, None)
        for key in list(self.ended)[:-ENDED_SHOWN]:
            changed.add(key)
            del self.ended[key]


def _token(row: list[Any]) -> tuple[UUID, TokenRow | None]:
    token_id, secret, user_id, lease_id, expires, valid = row
    if not valid:
        return UUID(token_id), None
    until = datetime.fromisoformat(expires) if expires else None
    only = UUID(lease_id) if lease_id else None
    return UUID(token_id), TokenRow(bytes.fromhex(secret), UUID(user_id), only, until)


def _lease(row: list[Any]) -> tuple[UUID, LeaseRow]:
    lease_id, name, owner_id, project_id, *rest = row
    key = UUID(lease_id)
    return key, LeaseRow(key, name, UUID(owner_id), UUID(project_id), *rest)


def _merged(
    held: dict[UUID, Row], found: Iterable[tuple[UUID, Row | None]], whole: bool, changed: set[UUID]
) -> dict[UUID, Row]:
    """What is held once `found` is taken in: all there is, if `whole`. None: that one is no more."""
    merged: dict[UUID, Row] = {} if whole else held
    for key, row in found:
        if held.get(key) != row:
            changed.add(key)
        if row is None:
            merged.pop(key, None)
        else:
            merged[key] = row
    if whole:
        changed |= held.keys() - merged.keys()
    return merged
