"""Answers to calls that were answered before, for endpoints that were told to cache (`--cache 60s`).

Equal calls at the same time ask the application once: the first one's answer is everybody's. They wait for it no longer
than the application takes; from then on only a little, for the first caller may be slow to read.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from uuid import UUID

from api.gateway import cache_rules as rules
from api.gateway.cache_rules import Keep, Keys, Use
from api.gateway.cache_store import Kept, Memory, Store
from api.gateway.hooks import Answer, Call, Headers, Recorder
from api.gateway.traffic import Counters
from leasing.settings.gateway import GatewaySettings

MARK = b"X-Leasing-Cache"
REST_SECONDS = 5.0
"""Equal calls wait so long for the rest of an answer that has begun."""
PASS_SECONDS = 10.0
"""Calls whose answer could not be kept do not wait for one another for so long."""
PASSING = 10_000
"""So many of those are remembered."""
TIMES = 3
"""A call whose first asker broke off so often asks by itself."""


@dataclass(frozen=True)
class Bounds:
    """Bytes."""

    body: int
    """A call with a longer body is passed on as it is."""
    entry: int
    """A longer answer is not kept."""


@dataclass
class Flight:
    """A call that is under way, for which equal ones wait."""

    user_id: UUID
    lease_id: UUID
    headed: asyncio.Event = field(default_factory=asyncio.Event)
    """Its answer has begun, or never will."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    kept: Kept | None = None

    def end(self, kept: Kept | None) -> None:
        self.kept = kept
        self.headed.set()
        self.over.set()


class ResponseCache:
    """`api.gateway.hooks.Cache`."""

    def __init__(
        self, store: Store, counters: Counters, bounds: Bounds, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` gives the time of day in seconds."""
        self.store = store
        self.counters = counters
        self.bounds = bounds
        self.clock = clock
        self._flights: dict[bytes, Flight] = {}
        self._passing: OrderedDict[bytes, float] = OrderedDict()
        self._writing: set[asyncio.Task[None]] = set()

    def gathers(self, call: Call, length: int | None) -> int | None:
        if call.target.endpoint.cache_seconds is None:
            return None
        use = rules.use(call)
        if use is None:
            return None
        if length is not None and length > self.bounds.body:
            if use is Use.CHANGE:
                self.later(self.change(call.target.lease_id))
            return None
        return self.bounds.body if length is None else length

    async def find(self, call: Call, body: bytes) -> Answer | Recorder | None:
        use, lease_id = rules.use(call), call.target.lease_id
        if use is Use.CHANGE:
            await self.change(lease_id)
            return Change(self, lease_id)
        keys = rules.keys(call, body)
        if use is not Use.LOOK:
            return await self._look(call, keys, None)
        for _ in range(TIMES):
            flight = self._flights.get(keys.shared)
            if flight is None or self._passes(keys.shared):
                break
            if (kept := await _landed(flight, call.visitor.user_id)) is not None:
                return self._hit(lease_id, kept)
        flight = None
        if keys.shared not in self._flights and not self._passes(keys.shared):
            flight = self._flights[keys.shared] = Flight(call.visitor.user_id, lease_id)
        found: Answer | Record | None = None
        try:
            found = await self._look(call, keys, flight, anew=False)
        finally:
            if not isinstance(found, Record):  # found, or given up: there is nothing to be heard
                self.landed(keys.shared, flight)
        return found

    async def _look(
        self, call: Call, keys: Keys, flight: Flight | None, *, anew: bool = True
    ) -> Answer | Record | None:
        """In the store, unless asked for `anew`; else who hears what the application says, if that can be kept."""
        lease_id = call.target.lease_id
        changes = await self.store.changes(lease_id)
        if changes is None:
            return None
        there = keys.after(changes)
        if not anew and (kept := await self.store.get(lease_id, (there.shared, there.own))) is not None:
            if flight is not None:
                flight.end(kept)
            return self._hit(lease_id, kept)
        self.counters.of(lease_id).cache_misses += 1
        return Record(self, call, keys, there, flight) if call.method != "HEAD" else None

    def _hit(self, lease_id: UUID, kept: Kept) -> Answer:
        self.counters.of(lease_id).cache_hits += 1
        age = b"%d" % max(0, int(self.clock() - kept.at))
        return Answer(kept.status, kept.reason, [*kept.headers, (b"Age", age), (MARK, b"hit")], kept.body)

    def _passes(self, key: bytes) -> bool:
        return self._passing.get(key, float("-inf")) > self.clock()

    def change(self, lease_id: UUID) -> Coroutine[None, None, None]:
        """Something of the lease was changed: nobody joins what was asked before, and what is kept is not found."""
        for key in [key for key, flight in self._flights.items() if flight.lease_id == lease_id]:
            del self._flights[key]  # who waits for it already asked before, too
        return self.store.change(lease_id)

    def landed(self, key: bytes, flight: Flight | None) -> None:
        """Nobody need wait for it any more."""
        if flight is None:
            return
        if self._flights.get(key) is flight:
            del self._flights[key]
        flight.end(flight.kept)

    def let_pass(self, key: bytes) -> None:
        """Equal calls go to the application each by itself, for a while."""
        self._passing[key] = self.clock() + PASS_SECONDS
        self._passing.move_to_end(key)
        if len(self._passing) > PASSING:
            self._passing.popitem(last=False)

    def later(self, work: Coroutine[None, None, None]) -> None:
        """Write to the store, while the caller's answer goes on."""
        task = asyncio.ensure_future(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def close(self) -> None:
        await asyncio.gather(*self._writing, return_exceptions=True)
        await self.store.close()


def opened(settings: GatewaySettings, counters: Counters) -> ResponseCache:
    """As the settings say. Raises `ValueError` for the address of no Redis server."""
    store: Store = Memory(settings.cache_bytes)
    if settings.cache_url:
        from api.gateway.cache_redis import Redis  # noqa: PLC0415 - the client is loaded by those who use it

        store = Redis(settings.cache_url)
    return ResponseCache(store, counters, Bounds(settings.cache_body_bytes, settings.cache_entry_bytes))


async def _landed(flight: Flight, user_id: UUID) -> Kept | None:
    """What came of it, if that is for this user too."""
    await flight.headed.wait()
    try:
        await asyncio.wait_for(flight.over.wait(), REST_SECONDS)
    except TimeoutError:
        return None
    kept = flight.kept
    return kept if kept is None or not kept.own or flight.user_id == user_id else None


class Record:
    """Hears the answer of a call that was not found, and keeps it if that may be."""

    marks: Headers = ((MARK, b"miss"),)

    def __init__(
        self, cache: ResponseCache, call: Call, keys: Keys, there: Keys, flight: Flight | None
    ) -> None:
        """`keys` name the call, `there` is where its answer is kept."""
        self._cache, self._keys, self._there, self._flight = cache, keys, there, flight
        self._lease_id, self._most = call.target.lease_id, call.target.endpoint.cache_seconds or 0
        self._keep: Keep | None = None
        self._head: tuple[int, str, Headers] = (0, "", ())
        self._parts: list[bytes] = []
        self._left = cache.bounds.entry

    def head(self, status: int, reason: str, headers: Headers) -> bool:
        self._keep = rules.keep(status, headers, most=self._most, now=self._cache.clock())
        if self._keep is None:
            return self._unkept()
        self._head = status, reason, rules.kept_headers(headers)
        if self._flight is not None:
            self._flight.headed.set()
        return True

    def data(self, part: bytes) -> bool:
        self._left -= len(part)
        if self._left < 0:
            return self._unkept()
        self._parts.append(part)
        return True

    def _unkept(self) -> bool:
        self._keep = None
        self._parts.clear()
        self._cache.let_pass(self._keys.shared)
        self._cache.landed(self._keys.shared, self._flight)
        return False

    def end(self, *, whole: bool) -> None:
        if self._keep is None or not whole:
            self._cache.landed(self._keys.shared, self._flight)
            return
        status, reason, headers = self._head
        body = b"".join(self._parts)
        kept = Kept(status, reason, headers, body, self._cache.clock(), own=self._keep.own)
        if self._flight is not None:
            self._flight.end(kept)
        self._cache.later(self._put(kept, self._keep))

    async def _put(self, kept: Kept, keep: Keep) -> None:
        """Until it is there, who comes has it from the flight."""
        await self._cache.store.put(
            self._lease_id, self._there.own if keep.own else self._there.shared, kept, keep.seconds
        )
        self._cache.landed(self._keys.shared, self._flight)


class Change:
    """Waits for the answer to a call that changes something: what was kept meanwhile is forgotten, too."""

    marks: Headers = ()

    def __init__(self, cache: ResponseCache, lease_id: UUID) -> None:
        self._cache, self._lease_id = cache, lease_id

    def head(self, status: int, reason: str, headers: Headers) -> bool:  # noqa: ARG002 - it hears the end only
        return False

    def data(self, part: bytes) -> bool:  # noqa: ARG002 - the same
        return False

    def end(self, *, whole: bool) -> None:  # noqa: ARG002 - half a change is one
        self._cache.later(self._cache.change(self._lease_id))
