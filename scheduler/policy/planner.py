"""Snapshot → plan: first in, first out.

A lease that must wait keeps everyone behind it waiting, so that a stream of small leases can never starve a large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from scheduler.policy.filters import refusals
from scheduler.policy.rooms import Rooms
from scheduler.policy.snapshot import Node, Placement, Plan, Snapshot, Waiting

NODES_NAMED = 4
"""Of a large cluster so many nodes are named with their reasons; the rest are counted."""


def plan(snapshot: Snapshot) -> Plan:
    """Placements for the head of the queue for as long as there is room; blockers for the rest.

    A lease that would not wait is refused when it cannot have its place in this very plan.
    """
    rooms = Rooms(snapshot)
    placements: list[Placement] = []
    refused: list[tuple[Waiting, str]] = []
    blockers: dict[UUID, Sequence[str]] = {}
    ahead = 0
    for lease in snapshot.queue:
        placement = None if ahead else rooms.place(lease)
        if placement is not None:
            placements.append(placement)
            continue
        reasons = _reasons(lease, rooms.nodes, ahead)
        if lease.wait:
            blockers[lease.id] = reasons
            ahead += 1
        else:
            refused.append((lease, "; ".join(reasons)))
    return Plan(placements, refused, blockers)


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
