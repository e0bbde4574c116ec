"""What each lease's endpoint has carried, counted in memory and added to its row every few seconds."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert

from api.gateway.asking import Beats
from leasing.database import Sessions, now
from leasing.model import CallTime, SignalKind, Traffic
from leasing.service import signals
from leasing.service.signals import Observation

PACKETS = 600
"""Bytes that a small request and its answer take on the network besides their own."""
FRAMES = 140
"""The same of a message on a WebSocket."""
BUCKETS = (*CallTime.BOUNDS, float("inf"))


@dataclass
class Count:
    """Since the last flush. `asked`: requests and messages of which a person, not an open page, is the cause;
    `own_bytes`: of what pages asked by themselves, about as the network counts it."""

    requests: int = 0
    asked: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    own_bytes: int = 0
    cache_hits: int = 0
    cache_misses: int = 0

    def add(self, other: Count) -> None:
        for one in fields(Count):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


class Counters:
    """Counts on the event loop's thread; `take` hands them over to be written."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._counts: dict[int, Count] = defaultdict(
            Count
        )  # by the number: a UUID's own hash is made in Python
        self._beats: dict[int, Beats] = defaultdict(Beats)
        self._times: dict[float, tuple[int, float]] = {}
        self._clock = clock

    def of(self, lease_id: UUID) -> Count:
        return self._counts[lease_id.int]

    def took(self, seconds: float) -> None:
        """A call, whosever, from its arrival to the end of its answer."""
        bucket = BUCKETS[bisect_left(BUCKETS, seconds)]
        self._add_times(bucket, 1, seconds)

    def person(self, lease_id: UUID, key: str | None) -> bool:
        """Whether a person asks for what `api.gateway.asking` calls `key`; if so, it is counted."""
        if not self._beats[lease_id.int].person(key, self._clock()):
            return False
        self.of(lease_id).asked += 1
        return True

    def stirs(self, lease_id: UUID, key: str | None) -> bool:
        """Whether a person asks, of a lease that does not run: that counts for nothing but its waking."""
        return self._beats[lease_id.int].person(key, self._clock())

    def forget(self, running: Collection[UUID]) -> None:
        """What was asked of others than those."""
        for number in self._beats.keys() - {lease_id.int for lease_id in running}:
            del self._beats[number]

    def take(self) -> dict[UUID, Count]:
        taken, self._counts = self._counts, defaultdict(Count)
        return {UUID(int=number): count for number, count in taken.items()}

    def take_times(self) -> dict[float, tuple[int, float]]:
        """For each bucket: calls, and their seconds together."""
        taken, self._times = self._times, {}
        return taken

    def give_back_times(self, times: Mapping[float, tuple[int, float]]) -> None:
        for bucket, (calls, seconds) in times.items():
            self._add_times(bucket, calls, seconds)

    def _add_times(self, bucket: float, calls: int, seconds: float) -> None:
        had, took = self._times.get(bucket, (0, 0.0))
        self._times[bucket] = (had + calls, took + seconds)

    def give_back(self, counts: dict[UUID, Count]) -> None:
        """What could not be written is kept for the next time."""
        for lease_id, count in counts.items():
            self._counts[lease_id.int].add(count)


def write(sessions: Sessions, counts: dict[UUID, Count], running: Collection[UUID]) -> None:
    """Add the counts, and observe every running endpoint: one that nobody asked anything is quiet, not unknown."""
    moved = {lease_id: count for lease_id, count in counts.items() if count != Count()}
    with sessions.begin() as session:
        if moved:
            new = insert(Traffic).values(
                [
                    {
                        "lease_id": lease_id,
                        "requests_total": count.requests,
                        "bytes_in_total": count.bytes_in,
                        "bytes_out_total": count.bytes_out,
                        "own_bytes_total": count.own_bytes,
                        "cache_hits_total": count.cache_hits,
                        "cache_misses_total": count.cache_misses,
                    }
                    for lease_id, count in sorted(moved.items())
                ]
            )
            session.execute(
                new.on_conflict_do_update(
                    index_elements=[Traffic.lease_id],
                    set_={
                        "requests_total": Traffic.requests_total + new.excluded.requests_total,
                        "bytes_in_total": Traffic.bytes_in_total + new.excluded.bytes_in_total,
                        "bytes_out_total": Traffic.bytes_out_total + new.excluded.bytes_out_total,
                        "own_bytes_total": Traffic.own_bytes_total + new.excluded.own_bytes_total,
                        "cache_hits_total": Traffic.cache_hits_total + new.excluded.cache_hits_total,
                        "cache_misses_total": Traffic.cache_misses_total + new.excluded.cache_misses_total,
                        "updated_at": new.excluded.updated_at,
                    },
                )
            )
        signals.observe(
            session,
            [
                Observation(lease_id, SignalKind.ENDPOINT, float(moved.get(lease_id, Count()).asked))
                for lease_id in {*running, *moved}
            ],
            now=now(session),
        )


def write_times(sessions: Sessions, times: Mapping[float, tuple[int, float]]) -> None:
    """Add to the histogram of all calls."""
    if not times:
        return
    new = insert(CallTime).values(
        [
            {"upto": bucket, "calls_total": calls, "seconds_total": seconds}
            for bucket, (calls, seconds) in sorted(times.items())
        ]
    )
    with sessions.begin() as session:
        session.execute(
            new.on_conflict_do_update(
                index_elements=[CallTime.upto],
                set_={
                    "calls_total": CallTime.calls_total + new.excluded.calls_total,
                    "seconds_total": CallTime.seconds_total + new.excluded.seconds_total,
                },
            )
        )
