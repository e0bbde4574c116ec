"""What the proxy is to know: a view of the grants as two small maps. Pure.

`tokens`: SHA-256 of a secret → `serial:principal:user`. `grants`: `principal|lease` → `address:port:key:started`. A
principal is whoever has the same rights, whichever token they bring; serial and key are numbers of ours, to cut and
count by. An entry is there only if `authorise` lets the call through, and only for what the proxy can do by itself: an
endpoint with limits of its own or a cache is left to the built-in plane. So are names that cannot be written in such a
line.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from api.gateway.authorise import Upstream, authorise
from api.gateway.grants import Target, View, Visitor

WRITABLE = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.ASCII)


@dataclass
class Map:
    """One map, as it stands, and what was done to it since that was asked last."""

    held: dict[str, str] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    changed: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)

    def put(self, key: str, value: str) -> None:
        before = self.held.get(key)
        if before == value:
            return
        self.held[key] = value
        (self.new if before is None or key in self.new else self.changed)[key] = value

    def drop(self, key: str) -> None:
        if self.held.pop(key, None) is None:
            return
        self.changed.pop(key, None)
        if self.new.pop(key, None) is None:
            self.gone.append(key)

    def settled(self) -> None:
        """The proxy has it all."""
        self.gone, self.changed, self.new = [], {}, {}


@dataclass
class _Principal:
    number: int
    visitor: Visitor
    tokens: set[bytes] = field(default_factory=set)


class Entries:
    """The two maps. Looks again only at what a new view changed; on each view, then on what expires in between."""

    def __init__(self, inside: Callable[[str], bool]) -> None:
        """`inside`: whether an address is in the leases' networks; nothing else becomes an entry."""
        self._inside = inside
        self._numbers = itertools.count(1)
        self._visitors: dict[bytes, Visitor] = {}
        self._serials: dict[bytes, int] = {}
        self._principals: dict[Hashable, _Principal] = {}
        self._targets: dict[str, Target] = {}
        self._rows: dict[str, set[str]] = {}
        self._keys: dict[UUID, int] = {}
        self.tokens, self.grants = Map(), Map()
        self.leases: dict[int, UUID] = {}
        """Which lease a key stands for; of ended ones too, for their last figures come late."""

    def update(self, view: View, now: datetime) -> None:
        """Bring both maps to this view, as it stands at that moment."""
        for secret in self._visitors.keys() - view.visitors.keys():
            self._leave(secret)
        newcomers: list[_Principal] = []
        for secret, visitor in view.visitors.items():
            before = self._visitors.get(secret)
            known = before is visitor or before == visitor
            if visitor.expires_at is not None and visitor.expires_at <= now:
                self._leave(secret)
            elif not known:
                self._leave(secret)
                if WRITABLE.fullmatch(visitor.name):
                    newcomers += self._enter(secret, visitor)
        self._forget_who_left()
        moved = {
            name: target
            for name, target in view.targets.items()
            if (last := self._targets.get(name)) is not target and last != target
        }
        for name in [*(self._targets.keys() - view.targets.keys()), *moved]:
            for key in self._rows.pop(name, ()):
                self.grants.drop(key)
        self._targets = dict(view.targets)
        self._write(moved.values(), self._principals.values())
        self._write(view.targets.values(), newcomers)

    def barred(self, streams: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
        """Of streams, each by its token's serial and its `principal|lease`, those that may go on no longer."""
        live = set(self._serials.values())
        return [one for one in streams if one[0] not in live or one[1] not in self.grants.held]

    def _enter(self, secret: bytes, visitor: Visitor) -> list[_Principal]:
        """Its principal, if there was none like it."""
        rights = _rights(visitor)
        made: list[_Principal] = []
        if rights not in self._principals:
            made.append(_Principal(next(self._numbers), visitor))
            self._principals[rights] = made[0]
        principal = self._principals[rights]
        principal.tokens.add(secret)
        self._visitors[secret] = visitor
        serial = self._serials[secret] = next(self._numbers)
        self.tokens.put(_hex(secret), f"{serial}:{principal.number}:{visitor.name}")
        return made

    def _leave(self, secret: bytes) -> None:
        visitor = self._visitors.pop(secret, None)
        if visitor is None:
            return
        del self._serials[secret]
        self._principals[_rights(visitor)].tokens.discard(secret)
        self.tokens.drop(_hex(secret))

    def _forget_who_left(self) -> None:
        for rights, one in [*self._principals.items()]:
            if not one.tokens:
                del self._principals[rights]
                for name, row in self._rows.items():
                    row.discard(f"{one.number}|{name}")
                    self.grants.drop(f"{one.number}|{name}")

    def _write(self, targets: Iterable[Target], principals: Collection[_Principal]) -> None:
        if not principals:
            return
        people = _People(principals)
        for target in targets:
            if not _simple(target):
                continue
            for one in people.concerned(target):
                verdict = authorise(one.visitor, target)
                if isinstance(verdict, Upstream) and ":" not in verdict.host and self._inside(verdict.host):
                    row, key = self._rows.setdefault(target.name, set()), f"{one.number}|{target.name}"
                    row.add(key)
                    lease = self._key(target.lease_id)
                    self.grants.put(key, f"{verdict.host}:{verdict.port}:{lease}:{target.started}")

    def _key(self, lease_id: UUID) -> int:
        found = self._keys.get(lease_id)
        if found is None:
            found = self._keys[lease_id] = next(self._numbers)
            self.leases[found] = lease_id
        return found


class _People:
    """Principals by what could bring them to a lease: to ask the rule of every one with every lease takes too long."""

    def __init__(self, principals: Iterable[_Principal]) -> None:
        self._admins: list[_Principal] = []
        self._users: dict[UUID, list[_Principal]] = {}
        self._projects: dict[UUID, list[_Principal]] = {}
        for one in principals:
            if one.visitor.admin:
                self._admins.append(one)
                continue
            self._users.setdefault(one.visitor.user_id, []).append(one)
            for project_id in one.visitor.roles:
                self._projects.setdefault(project_id, []).append(one)

    def concerned(self, target: Target) -> Iterator[_Principal]:
        """Everybody whom `authorise` may let through, and some whom it does not."""
        yield from self._admins
        yield from self._users.get(target.owner_id, ())
        if target.shared:
            yield from self._projects.get(target.project_id, ())


def next_expiry(visitors: Mapping[bytes, Visitor], now: datetime) -> datetime | None:
    """When the next of them expires by itself."""
    return min(
        (one.expires_at for one in visitors.values() if one.expires_at is not None and one.expires_at > now),
        default=None,
    )


def _simple(target: Target) -> bool:
    """Whether the proxy can do by itself what its owner asked for."""
    asked = target.endpoint
    limits = (asked.cache_seconds, asked.rate, asked.body_max_bytes, asked.timeout_seconds)
    return all(one is None for one in limits) and WRITABLE.fullmatch(target.name) is not None


def _hex(secret: bytes) -> str:
    return secret.hex().upper()


def _rights(visitor: Visitor) -> Hashable:
    """What decides on a visitor's calls, and what the application is told of them."""
    return (visitor.user_id, visitor.name, visitor.admin, visitor.lease_id, frozenset(visitor.roles.items()))
