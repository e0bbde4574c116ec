"""What is free now, and when the rest frees."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.gpus import WHOLE
from leasing.model import Allocation, Device, DeviceUsage, Lease, Node, NodeUsage, Run
from leasing.schema.cluster import FreeingOut, OfferOut, OfferPage
from leasing.service.cluster import free_devices, free_parts
from leasing.states import DeviceHealth, LeaseState, NodeHealth, NodeIntent

MOMENTS = 5
"""Of each node and model so many moments are told at which devices come free."""


def offers(session: Session, *, now: datetime) -> OfferPage:
    """What is free on each open node now, when the rest frees, and how many wait for it."""
    free = free_devices(session, now)
    parts = free_parts(session, now)
    frees = _frees(session, now)
    totals: dict[UUID, Counter[str]] = defaultdict(Counter)
    for node_id, model in session.execute(
        sa.select(Device.node_id, Device.model)
        .join(DeviceUsage)
        .where(DeviceUsage.share == WHOLE, Device.health != DeviceHealth.RETIRED)
    ):
        totals[node_id][model] += 1
    rows: Sequence[tuple[Node, NodeUsage]] = session.execute(
        sa.select(Node, NodeUsage)
        .join(NodeUsage)
        .where(Node.intent == NodeIntent.OPEN, Node.health == NodeHealth.READY)
        .order_by(Node.name)
    ).all()
    depth = session.execute(
        sa.select(sa.func.count()).select_from(Lease).where(Lease.state == LeaseState.QUEUED)
    ).scalar_one()
    return OfferPage(
        items=[
            OfferOut(
                node=node.name,
                labels=node.labels,
                cpus_free=(usage.cpus_millis - usage.cpus_used_millis) / 1000,
                cpus=usage.cpus_millis / 1000,
                memory_free_bytes=usage.memory_bytes - usage.memory_used_bytes,
                memory_bytes=usage.memory_bytes,
                devices_free=dict(free[node.id]),
                devices_total=dict(totals[node.id]),
                parts_free=parts[node.id],
                frees=frees[node.id],
            )
            for node, usage in rows
        ],
        queue_depth=depth,
    )


def _frees(session: Session, now: datetime) -> dict[UUID, list[FreeingOut]]:
    """Per node, when whole devices come free: each when the last of those that have a part of it must leave."""
    until = sa.case(
        (Lease.state == LeaseState.STOPPING, now),
        else_=sa.func.coalesce(
            Lease.ends_at, Lease.until, now + sa.func.make_interval(0, 0, 0, 0, 0, 0, Lease.ttl_seconds)
        ),
    )
    leaves = (
        sa.select(Allocation.device_id, sa.func.greatest(sa.func.max(until), now).label("at"))
        .join(Run, Run.id == Allocation.run_id)
        .join(Lease, Lease.id == Run.lease_id)
        .where(Allocation.released_at.is_(None))
        .group_by(Allocation.device_id)
        .subquery()
    )
    rows = session.execute(
        sa.select(Device, leaves.c.at)
        .join(leaves, leaves.c.device_id == Device.id)
        .join(DeviceUsage)
        .where(DeviceUsage.share == WHOLE, Device.intent == NodeIntent.OPEN, Device.health == DeviceHealth.OK)
    )
    counts: dict[tuple[UUID, str], Counter[datetime]] = defaultdict(Counter)
    for device, at in rows:
        counts[device.node_id, device.model][at] += 1
    frees: dict[UUID, list[FreeingOut]] = defaultdict(list)
    for (node_id, model), moments in sorted(counts.items()):
        for at in sorted(moments)[:MOMENTS]:
            frees[node_id].append(FreeingOut(at=at, model=model, count=moments[at]))
    for each in frees.values():
        each.sort(key=lambda one: one.at)
    return frees
