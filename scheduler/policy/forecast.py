"""When will those that wait probably start? The queue is played forward, each lease leaving when it is thought to.

The same rooms and the same placer as in a plan, so that what is foretold is what the planner would do; nobody is
foreseen to go ahead of another. Leaving at deadlines it says the latest, leaving as leases usually do the likely.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count
from uuid import UUID

from scheduler.policy.rooms import Rooms
from scheduler.policy.snapshot import Held, Node, Snapshot, Waiting

FARTHEST = 100
"""So many of those that wait are foretold; of the rest nothing useful can be said."""


class Playing:
    """A queue that is played forward, one lease after the other."""

    def __init__(self, snapshot: Snapshot, nodes: Sequence[Node], held: Sequence[Held]) -> None:
        """`nodes` are as they are now, `held` is what is taken of them."""
        self._rooms = Rooms(replace(snapshot, nodes=nodes))
        self._moment = snapshot.at
        self._order = count()  # heaps compare what comes next in a tuple, and what is held has no order
        self._changes: list[tuple[datetime, int, Held | None]] = [
            (max(one.until, snapshot.at), next(self._order), one) for one in held
        ]
        # nothing is given back then, but what is reserved may be used by who booked it, and afterwards by all
        self._changes += [
            (bound, next(self._order), None)
            for node in nodes
            for one in node.reserved
            for bound in (one.starts_at, one.ends_at)
        ]
        heapq.heapify(self._changes)
        self._played = 0
        self._stuck = False

    def start(self, lease: Waiting) -> datetime | None:
        """When there will be room for the next of the queue; None if not even when all deadlines have passed.

        Once one cannot be foretold, nobody behind it can.
        """
        self._played += 1
        self._stuck = self._stuck or self._played > FARTHEST
        while not self._stuck and (placement := self._rooms.place(lease, self._moment)) is None:
            self._stuck = not self._changes
            if self._changes:
                self._forward()
        if self._stuck:
            return None
        assert placement is not None, "else it would be stuck"
        end = max(placement.until(self._moment), self._moment)
        heapq.heappush(self._changes, (end, next(self._order), placement.held(end)))
        return self._moment

    def _forward(self) -> None:
        """To the next moment at which somebody leaves, or a reservation begins or ends."""
        self._moment = max(self._moment, self._changes[0][0])
        while self._changes and self._changes[0][0] <= self._moment:
            left = heapq.heappop(self._changes)[2]
            if left is not None:
                self._rooms.give_back(left)


def forecast(
    snapshot: Snapshot, nodes: Sequence[Node], held: Sequence[Held], queue: Sequence[Waiting]
) -> dict[UUID, datetime | None]:
    """For each of `queue`, in its order, when there will be room; None where nothing tells."""
    playing = Playing(snapshot, nodes, held)
    return {lease.id: playing.start(lease) for lease in queue}


def as_usual(held: Sequence[Held]) -> list[Held]:
    """The same, leaving when they probably will."""
    return [replace(one, until=min(one.likely, one.until)) if one.likely else one for one in held]
