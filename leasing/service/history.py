"""What was asked for in the last days and what became of it, for playing it again under another policy."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import Invalid
from leasing.model import Device, DeviceUsage, Lease, Node, NodeUsage, Project, Run, User
from leasing.schema.history import HistoryDevice, HistoryLease, HistoryNode, HistoryPage, HistoryProject
from leasing.states import DeviceHealth, LeaseState, NodeHealth, NodeIntent, Verdict

MAX_PAGE = 500
DAY = 86_400


def page(session: Session, *, days: int, cursor: str | None, limit: int, now: datetime) -> HistoryPage:
    """Leases that lived within the last `days`, in order of arrival; nodes and projects with the first page.

    Raises `Invalid` for a cursor that is none.
    """
    since, limit = now - timedelta(days=days), min(limit, MAX_PAGE)
    statement = (
        sa.select(Lease, User.name, Project.name)
        .join(User, User.id == Lease.owner_id)
        .join(Project, Project.id == Lease.project_id)
        .where(sa.or_(Lease.ended_at.is_(None), Lease.ended_at >= since))
        .order_by(Lease.arrival)
        .limit(limit + 1)
    )
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise Invalid(
                f"{cursor[:40]!r} is not a page's cursor.", hint="Take it from `next` of the page before."
            )
        statement = statement.where(Lease.arrival > int(cursor))
    found = session.execute(statement).all()
    rows = found[:limit]
    times = _times(session, [lease.id for lease, *_ in rows], now)
    return HistoryPage(
        since=since,
        until=now,
        nodes=_nodes(session) if cursor is None else [],
        projects=_projects(session) if cursor is None else [],
        items=[
            _lease(lease, owner, project, *times.get(lease.id, (None, 0.0))) for lease, owner, project in rows
        ],
        next=str(rows[-1][0].arrival) if len(found) > limit else None,
    )


def _lease(
    lease: Lease, owner: str, project: str, placed_at: datetime | None, held_seconds: float
) -> HistoryLease:
    until = (lease.until - lease.created_at).total_seconds() if lease.until is not None else None
    idle = lease.state == LeaseState.ENDED and lease.idle_verdict == Verdict.IDLE
    return HistoryLease(
        id=lease.id,
        name=lease.name,
        owner=owner,
        project=project,
        image=lease.image,
        gpu_count=lease.gpu_count,
        gpu_model=lease.gpu_model,
        gpu_share=lease.gpu_share,
        gpu_memory_bytes=lease.gpu_memory_bytes,
        cpus_millis=lease.cpus_millis,
        memory_bytes=lease.memory_bytes,
        seconds=max(1, round(until if until is not None else lease.ttl_seconds or DAY)),
        priority=lease.priority,
        preemptible=lease.preemptible,
        wait=lease.wait,
        node=lease.node_name,
        labels=lease.node_labels,
        state=lease.state,
        reason=lease.reason,
        asked_at=lease.created_at,
        placed_at=placed_at,
        held_seconds=held_seconds,
        ended_at=lease.ended_at,
        idle_since=lease.idle_since if idle else None,
    )


def _times(session: Session, leases: list[UUID], now: datetime) -> dict[UUID, tuple[datetime | None, float]]:
    """Of each that has had a place: when it first had it, and for how many seconds in all."""
    held = sa.func.extract("epoch", sa.func.coalesce(Run.released_at, now) - Run.placed_at)
    rows = session.execute(
        sa.select(Run.lease_id, sa.func.min(Run.placed_at), sa.func.sum(held))
        .where(Run.lease_id.in_(leases))
        .group_by(Run.lease_id)
    )
    return {lease_id: (placed_at, max(0.0, float(seconds))) for lease_id, placed_at, seconds in rows}


def _projects(session: Session) -> list[HistoryProject]:
    rows = session.execute(sa.select(Project.name, Project.weight).order_by(Project.name))
    return [HistoryProject(name=name, weight=weight) for name, weight in rows]


def _nodes(session: Session) -> list[HistoryNode]:
    devices: dict[UUID, list[HistoryDevice]] = defaultdict(list)
    for device, usage in session.execute(
        sa.select(Device, DeviceUsage)
        .join(DeviceUsage)
        .where(Device.health != DeviceHealth.RETIRED, DeviceUsage.share > 0)
        .order_by(Device.index)
    ):
        devices[device.node_id].append(
            HistoryDevice(
                uuid=device.uuid,
                index=device.index,
                model=device.model,
                memory_bytes=usage.memory_bytes,
                instance=device.parent_uuid is not None,
                open=device.intent == NodeIntent.OPEN and device.health == DeviceHealth.OK,
            )
        )
    return [
        HistoryNode(
            name=node.name,
            cpus_millis=usage.cpus_millis,
            memory_bytes=usage.memory_bytes,
            open=node.intent == NodeIntent.OPEN and node.health != NodeHealth.LOST,
            labels=node.labels,
            devices=devices[node.id],
            links=[(link["a"], link["b"], int(link["rank"])) for link in node.topology],
        )
        for node, usage in session.execute(sa.select(Node, NodeUsage).join(NodeUsage).order_by(Node.name))
    ]
