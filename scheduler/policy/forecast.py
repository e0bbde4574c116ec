"""When will those that wait probably start? The queue is played forward, each lease leaving at its deadline.

The same rooms and the same placer as in a plan, so that what is foretold is what the planner would do. Leases often end
before their deadlines, so a forecast is rather late than early; nobody is foreseen to go ahead of another.
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
    leaving = [(max(one.until, snapshot.at), next(order), one) for one in held]
    heapq.heapify(leaving)
    moment = snapshot.at
    for lease in queue[:FARTHEST]:
        while (placement := rooms.place(lease)) is None:
            if not leaving:
                return expected
            moment, _, left = heapq.heappop(leaving)
            rooms.give_back(left)
            while leaving and leaving[0][0] == moment:
                rooms.give_back(heapq.heappop(leaving)[2])
        expected[lease.id] = moment
        end = max(lease.end(moment), moment)
        heapq.heappush(leaving, (end, next(order), placement.held(end)))
    return expected
