"""What reservations keep from whom: a lease may use what is promised to others only until their time begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from scheduler.policy.snapshot import Node, Reserved, Waiting


@dataclass(frozen=True)
class Promised:
    """Kept free on a node for others: CPUs, memory, and devices with the reservation that has each."""

    cpus_millis: int = 0
    memory_bytes: int = 0
    devices: Mapping[UUID, Reserved] = field(default_factory=dict)


def promised(node: Node, lease: Waiting, start: datetime, end: datetime) -> Promised:
    """What the lease must leave alone on the node, were it to run from `start` to `end`.

    Of CPUs and memory, the most that reservations have together at any moment of that time.
    """
    others = [
        one
        for one in node.reserved
        if one.id != lease.reservation_id and one.starts_at < end and start < one.ends_at
    ]
    if not others:
        return Promised()
    together = [[one for one in others if one.starts_at <= begun.starts_at < one.ends_at] for begun in others]
    return Promised(
        max(sum(one.cpus_millis for one in some) for some in together),
        max(sum(one.memory_bytes for one in some) for some in together),
        {device: one for one in others for device in one.device_ids},
    )


def own(node: Node, lease: Waiting) -> Reserved | None:
    """The lease's reservation, if it holds devices of this node."""
    if lease.reservation_id is None:
        return None
    return next((one for one in node.reserved if one.id == lease.reservation_id), None)
