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


def forecast(
    snapshot: Snapshot, nodes: Sequence[Node], held: Sequence[Held], queue: Sequence[Waiting]
) -> dict[UUID, datetime | None]:
    """For each of `queue`, in its order, when there will be room; None if not even when all deadlines have passed.

    `nodes` are as they are now, `held` is what is taken of them. Once one cannot be foretold, nobody behind it can.
    """
    expected: dict[UUID, datetime | None] = {lease.id: None for lease in queue}
    rooms = Rooms(replace(snapshot, nodes=nodes))
    order = count()  # heaps compare what comes next in a tuple, and what is held has no order
    changes: list[tuple[datetime, int, Held | None]] = [
        (max(one.until, snapshot.at), next(order), one) for one in held
    ]
    # nothing is given back then, but what is reserved may be used by who booked it, and afterwards by all
    changes += [
        (bound, next(order), None)
        for node in nodes
        for one in node.reserved
        for bound in (one.starts_at, one.ends_at)
    ]
    heapq.heapify(changes)
    moment = snapshot.at
    for lease in queue[:FARTHEST]:
        while (placement := rooms.place(lease, moment)) is None:
            if not changes:
                return expected
            moment = max(moment, changes[0][0])
            while changes and changes[0][0] <= moment:
                left = heapq.heappop(changes)[2]
                if left is not None:
                    rooms.give_back(left)
        expected[lease.id] = moment
        end = max(placement.until(moment), moment)
        heapq.heappush(changes, (end, next(order), placement.held(end)))
    return expected


def as_usual(held: Sequence[Held]) -> list[Held]:
    """The same, leaving when they probably will."""
    return [replace(one, until=min(one.likely, one.until)) if one.likely else one for one in held]
