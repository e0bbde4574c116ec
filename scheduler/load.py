"""Rows → snapshot: three statements, whatever the size of the cluster."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.model import Device as DeviceRow
from leasing.model import DeviceUsage, Lease, NodeUsage, Workspace
from leasing.model import Node as NodeRow
from leasing.service.cluster import WHOLE, unfit
from leasing.states import DeviceHealth, LeaseState, NodeHealth, NodeIntent
from leasing.units import format_size
from scheduler.policy.snapshot import Device, Node, Snapshot, Waiting


def queue(session: Session, now: datetime) -> list[Waiting]:
    """Who waits, in the order of service. A lease that may not be tried again yet is not among them."""
    rows = session.execute(
        sa.select(
            Lease.id,
            Lease.name,
            Lease.gpu_count,
            Lease.gpu_model,
            Lease.cpus_millis,
            Lease.memory_bytes,
            Lease.wait,
            Workspace.node_id,
        )
        .outerjoin(Workspace, Workspace.id == Lease.workspace_id)
        .where(Lease.state == LeaseState.QUEUED, sa.or_(Lease.retry_at.is_(None), Lease.retry_at <= now))
        .order_by(Lease.priority.desc(), Lease.arrival)
    )
    return [Waiting(*row) for row in rows]


def nodes(session: Session, now: datetime, *, disk_reserve_bytes: int) -> list[Node]:
    """Every node with what is free on it."""
    devices: dict[UUID, list[Device]] = defaultdict(list)
    for row, share_used in session.execute(
        sa.select(DeviceRow, DeviceUsage.share_used)
        .join(DeviceUsage)
        .where(DeviceUsage.share == WHOLE, DeviceRow.health != DeviceHealth.RETIRED)
        .order_by(DeviceRow.index)
    ):
        devices[row.node_id].append(
            Device(row.id, row.uuid, row.index, row.model, row.memory_bytes, share_used == 0, unfit(row, now))
        )
    return [
        Node(
            id=row.id,
            name=row.name,
            cpus_free_millis=usage.cpus_millis - usage.cpus_used_millis,
            memory_free_bytes=usage.memory_bytes - usage.memory_used_bytes,
            devices=tuple(devices[row.id]),
            closed=_closed(row, disk_reserve_bytes),
            links=_links(row.topology),
        )
        for row, usage in session.execute(sa.select(NodeRow, NodeUsage).join(NodeUsage))
    ]


def snapshot(session: Session, waiting: list[Waiting], now: datetime, *, disk_reserve_bytes: int) -> Snapshot:
    """The whole picture for those that wait."""
    return Snapshot(nodes(session, now, disk_reserve_bytes=disk_reserve_bytes), waiting)


def _closed(node: NodeRow, disk_reserve_bytes: int) -> str | None:
    if node.intent != NodeIntent.OPEN:
        return f"is {node.intent} by an admin"
    if node.health != NodeHealth.READY:
        return f"is {node.health}: {node.health_reason or 'its engine does not answer'}"
    free = node.engine.get("disk_free_bytes")
    if free is not None and free < disk_reserve_bytes:
        return f"has only {format_size(free)} of disk left, under the reserve of {format_size(disk_reserve_bytes)}"
    return None


def _links(topology: list[Any]) -> dict[frozenset[str], int]:
    return {frozenset((link["a"], link["b"])): int(link["rank"]) for link in topology}
