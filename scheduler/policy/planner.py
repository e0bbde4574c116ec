"""Snapshot → plan: first come, first served, and nobody later delays anybody earlier.

A lease that must wait keeps those behind it waiting, so that a stream of small leases can never starve a large one.
Only who is proven not to delay anybody may go ahead (see `backfill`). A lease that would not fit even if everybody left
waits for a node or a device to come back, and keeps nobody waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from scheduler.policy.advice import advice
from scheduler.policy.backfill import Backfill
from scheduler.policy.filters import refusals
from scheduler.policy.forecast import forecast
from scheduler.policy.rooms import Rooms
from scheduler.policy.snapshot import Node, Placement, Plan, Snapshot, Waiting

ADVISED = 8
"""So many of those that wait are told what would start them now."""
NODES_NAMED = 4
"""Of a large cluster so many nodes are named with their reasons; the rest are counted."""


def plan(snapshot: Snapshot) -> Plan:
    """Placements, in the order of the queue as far as there is room; blockers and an expected start for the rest.

    A lease that would not wait is refused when it cannot have its place in this very plan.
    """
    rooms = Rooms(snapshot)
    backfill = Backfill(snapshot, rooms) if snapshot.held is not None else None
    held = list(snapshot.held or ())
    placements: list[Placement] = []
    refused: list[tuple[Waiting, str]] = []
    waiting: list[Waiting] = []
    blockers: dict[UUID, Sequence[str]] = {}
    emptied: Rooms | None = None
    for lease in snapshot.queue:
        placement = None
        if not waiting:
            placement = rooms.place(lease)
        elif backfill is not None:
            placement = backfill.place(lease, waiting, held)
        if placement is not None:
            placements.append(placement)
            held.append(placement.held(lease.end(snapshot.at)))
            continue
        reasons = _reasons(lease, rooms.nodes, len(waiting))
        if lease.wait:
            blockers[lease.id] = reasons
            emptied = emptied or _emptied(snapshot)
            if snapshot.held is None or emptied.has_room(lease):
                waiting.append(lease)
        else:
            refused.append((lease, "; ".join(reasons)))
    if backfill is None:
        return Plan(placements, refused, blockers)
    expected = forecast(snapshot, rooms.nodes, held, waiting)
    for position, lease in enumerate(waiting[:ADVISED]):
        ahead = waiting[:position]
        said = advice(
            lease,
            rooms.nodes,
            at=snapshot.at,
            first_start=min((start for one in ahead if (start := expected[one.id])), default=None),
            would_start=partial(backfill.would_start, ahead=ahead, held=held),
        )
        if said is not None:
            blockers[lease.id] = [*blockers[lease.id], said]
    return Plan(placements, refused, blockers, expected)


def _emptied(snapshot: Snapshot) -> Rooms:
    """The cluster, had everybody left."""
    rooms = Rooms(snapshot)
    for one in snapshot.held or ():
        rooms.give_back(one)
    return rooms


def _reasons(lease: Waiting, nodes: Sequence[Node], ahead: int) -> list[str]:
    against = [f"{node.name}: {', '.join(why)}" for node in nodes if (why := refusals(lease, node))]
    if len(against) > NODES_NAMED + 1:
        against = [*against[:NODES_NAMED], f"{len(against) - NODES_NAMED} more nodes have no room either"]
    if not nodes:
        against = ["no node has joined yet"]
    if ahead:
        waits = "1 lease is" if ahead == 1 else f"{ahead} leases are"
        return [f"{waits} ahead in the queue", *against]
    return against
