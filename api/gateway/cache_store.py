"""What keeps answers, and the one that does so in this process's memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from api.gateway.hooks import Headers

ENTRY_BYTES = 512
"""Taken by an entry besides what it holds."""
CHANGED = 10_000
"""Of so many leases it is remembered that calls changed something."""


@dataclass(frozen=True)
class Kept:
    """An answer."""

    status: int
    reason: str
    headers: Headers
    body: bytes
    at: float
    """When it was given, seconds of the day's time."""
    own: bool
    """For its user only."""

    @property
    def size(self) -> int:
        return ENTRY_BYTES + len(self.body) + sum(len(name) + len(value) for name, value in self.headers)


class Store(Protocol):
    """Keeps what it can, promises nothing and never raises."""

    async def get(self, lease_id: UUID, keys: Sequence[bytes]) -> Kept | None:
        """What there is under the first of the keys that has something."""

    async def put(self, lease_id: UUID, key: bytes, kept: Kept, seconds: float) -> None: ...

    async def changes(self, lease_id: UUID) -> int | None:
        """How often calls have changed something of the lease; None: not known, so nothing kept is used."""

    async def change(self, lease_id: UUID) -> None:
        """Once more: what is kept of it is not found again."""

    async def close(self) -> None: ...


class Memory(Store):
    """Bounded by bytes. Of the lease that has the most, what was not asked for longest goes first."""

    def __init__(self, most_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._most = most_bytes
        self._clock = clock
        self._leases: dict[UUID, OrderedDict[bytes, tuple[Kept, float]]] = {}
        self._bytes: dict[UUID, int] = {}
        self._changes: OrderedDict[UUID, int] = OrderedDict()
        self.total_bytes = 0

    async def get(self, lease_id: UUID, keys: Sequence[bytes]) -> Kept | None:
        entries = self._leases.get(lease_id, OrderedDict())
        for key in keys:
            if (found := entries.get(key)) is None:
                continue
            kept, until = found
            if until > self._clock():
                entries.move_to_end(key)
                return kept
            self._drop(lease_id, key)
        return None

    async def put(self, lease_id: UUID, key: bytes, kept: Kept, seconds: float) -> None:
        if kept.size > self._most:
            return
        entries = self._leases.setdefault(lease_id, OrderedDict())
        if key in entries:
            self._drop(lease_id, key)
            entries = self._leases.setdefault(lease_id, entries)
        entries[key] = kept, self._clock() + seconds
        self._bytes[lease_id] = self._bytes.get(lease_id, 0) + kept.size
        self.total_bytes += kept.size
        while self.total_bytes > self._most:
            greatest = max(self._bytes, key=self._bytes.__getitem__)
            self._drop(greatest, next(iter(self._leases[greatest])))

    def _drop(self, lease_id: UUID, key: bytes) -> None:
        kept, _ = self._leases[lease_id].pop(key)
        self._bytes[lease_id] -= kept.size
        self.total_bytes -= kept.size
        if not self._leases[lease_id]:
            del self._leases[lease_id], self._bytes[lease_id]

    async def changes(self, lease_id: UUID) -> int | None:
        return self._changes.get(lease_id, 0)

    async def change(self, lease_id: UUID) -> None:
        self._changes[lease_id] = self._changes.pop(lease_id, 0) + 1
        if len(self._changes) > CHANGED:
            self._changes.popitem(last=False)
        self._leases.pop(lease_id, None)
        self.total_bytes -= self._bytes.pop(lease_id, 0)

    async def close(self) -> None:
        self._leases.clear()
