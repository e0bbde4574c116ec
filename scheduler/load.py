"""Rows → snapshot: a few statements, whatever the size of the cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.gpus import WHOLE, GpuAsk
from leasing.model import (
    Allocation,
    DeviceUsage,
    Lease,
    NodeUsage,
    Project,
    Reservation,
    ReservedDevice,
    Run,
    Workspace,
)
from leasing.model import Device as DeviceRow
from leasing.model import Node as NodeRow
from leasing.service.cluster import unfit
from leasing.states import DeviceHealth, LeaseState, NodeHealth, NodeIntent, ReservationState
from leasing.units import format_size
from scheduler import fairness, history
from scheduler.policy.snapshot import Device, Held, Node, Request, Reserved, Snapshot, Waiting, Yielding

LATELY, KINDS = 500, 64
"""What is typical is taken from so many requests, and at most so many kinds of them."""
ASKED = (
    Lease.gpu_count, Lease.gpu_model, Lease.gpu_share, Lease.gpu_memory_bytes, Lease.cpus_millis, Lease.memory_bytes,
)  # fmt: skip


def queue(session: Session, now: datetime, *, at_least_seconds: int) -> list[Waiting]:
    """Who waits, as they came. A lease that may not be tried again yet is not among them.

    `at_least_seconds`: to which a reservation may cut the time of who does not say.
    """
    rows = session.execute(
        sa.select(
            Lease.id, Lease.name, Lease.wait, sa.func.coalesce(Lease.kept_node_id, Workspace.node_id),
            Lease.ttl_seconds, Lease.until, sa.func.coalesce(Lease.at_least_seconds, at_least_seconds),
            Lease.node_name, Lease.node_labels, Reservation.id, Project.name, Lease.priority, Lease.preemptible,
            Lease.arrival, *ASKED,
        )
        .join(Project, Project.id == Lease.project_id)
        .outerjoin(Workspace, Workspace.id == Lease.workspace_id)
        .outerjoin(Reservation, sa.and_(Reservation.id == Lease.reservation_id, _live(now)))
        .where(Lease.state == LeaseState.QUEUED, sa.or_(Lease.retry_at.is_(None), Lease.retry_at <= now))
        .order_by(Lease.arrival)
    )  # fmt: skip
    return [
        Waiting(
            lease_id, name, _request(*asked), wait, node_id, float(seconds or 0), until, float(at_least), node_name,
            labels, reservation_id, project, priority, preemptible, arrival,
        )
        for lease_id, name, wait, node_id, seconds, until, at_least, node_name, labels, reservation_id, project,
            priority, preemptible, arrival, *asked in rows
    ]  # fmt: skip


def _live(now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(
        Reservation.state.in_([ReservationState.BOOKED, ReservationState.USED]), Reservation.ends_at > now
    )


def reserved(session: Session, now: datetime) -> dict[UUID, list[Reserved]]:
    """By node, what is promised from now on; of CPUs and memory, what nobody has under it yet."""
    rows = session.execute(
        sa.select(Reservation, sa.func.array_agg(ReservedDevice.device_id))
        .join(ReservedDevice, sa.and_(ReservedDevice.reservation_id == Reservation.id, ReservedDevice.live))
        .where(_live(now))
        .group_by(Reservation.id)
    ).all()
    if not rows:
        return {}
    used = {
        reservation_id: (cpus, memory)
        for reservation_id, cpus, memory in session.execute(
            sa.select(Lease.reservation_id, sa.func.sum(Run.cpus_millis), sa.func.sum(Run.memory_bytes))
            .join(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
            .where(Lease.reservation_id.in_([row.id for row, _ in rows]))
            .group_by(Lease.reservation_id)
        )
    }
    found: dict[UUID, list[Reserved]] = defaultdict(list)
    for row, devices in rows:
        cpus, memory = used.get(row.id, (0, 0))
        found[row.node_id].append(
            Reserved(
                row.id, row.name, frozenset(devices), max(0, row.cpus_millis - cpus),
                max(0, row.memory_bytes - int(memory)), row.starts_at, row.ends_at,
            )
        )  # fmt: skip
    return found


def yielding(session: Session, held: Mapping[UUID, Held]) -> list[Yielding]:
    """The running leases that may be suspended for others; `held` is what each lease holds."""
    rows = session.execute(
        sa.select(
            Lease.id, Lease.name, Project.name, Lease.priority, Run.started_at, *ASKED,
        )
        .join(Project, Project.id == Lease.project_id)
        .join(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
        .where(Lease.state == LeaseState.RUNNING, Lease.preemptible)
    )  # fmt: skip
    return [
        Yielding(lease_id, name, held[lease_id], project, priority, since, _request(*asked).worth)
        for lease_id, name, project, priority, since, *asked in rows
        if since is not None
    ]


def held(session: Session, now: datetime) -> dict[UUID, Held]:
    """What each lease that has not ended has taken, with when it will be free; one being stopped is about to be."""
    parts: dict[UUID, list[tuple[UUID, int, int]]] = defaultdict(list)
    for run_id, device_id, share, memory in session.execute(
        sa.select(Allocation.run_id, Allocation.device_id, Allocation.share, Allocation.memory_bytes).where(
            Allocation.released_at.is_(None)
        )
    ):
        parts[run_id].append((device_id, share, memory))
    rows = session.execute(
        sa.select(
            Run, Lease.owner_id, Lease.image, Lease.state, Lease.ends_at, Lease.until, Lease.ttl_seconds
        )
        .join(Lease, Lease.id == Run.lease_id)
        .where(Run.released_at.is_(None))
    )
    usual = history.behaviour(session, now)
    return {
        run.lease_id: Held(
            run.node_id,
            run.cpus_millis,
            run.memory_bytes,
            parts[run.id],
            until := now if state == LeaseState.STOPPING else _deadline(ends_at, at, seconds, now),
            usual.likely_end(str(owner), image, started=run.started_at or now, deadline=until, now=now),
        )
        for run, owner, image, state, ends_at, at, seconds in rows
    }


def _deadline(
    ends_at: datetime | None, until: datetime | None, seconds: int | None, now: datetime
) -> datetime:
    return ends_at or until or now + timedelta(seconds=seconds or 0)


def typical(session: Session) -> list[tuple[Request, float]]:
    """What has been asked for lately, with how often: what will probably be asked for next."""
    lately = sa.select(*ASKED).order_by(Lease.arrival.desc()).limit(LATELY).subquery()
    rows = session.execute(
        sa.select(*lately.c, sa.func.count().label("times"))
        .where(lately.c.gpu_count > 0)
        .group_by(*lately.c)
        .order_by(sa.desc("times"))
        .limit(KINDS)
    )
    return [(_request(*asked), float(times)) for *asked, times in rows]


def _request(
    count: int, model: str | None, share: int, device_memory: int | None, cpus_millis: int, memory_bytes: int
) -> Request:
    return Request(GpuAsk(count, model, share, device_memory), cpus_millis, memory_bytes)


def nodes(session: Session, now: datetime, *, disk_reserve_bytes: int) -> list[Node]:
    """Every node with what is free on it, and what is promised."""
    promised = reserved(session, now)
    devices: dict[UUID, list[Device]] = defaultdict(list)
    for row, usage in session.execute(
        sa.select(DeviceRow, DeviceUsage)
        .join(DeviceUsage)
        .where(DeviceUsage.share == WHOLE, DeviceRow.health != DeviceHealth.RETIRED)
        .order_by(DeviceRow.index)
    ):
        devices[row.node_id].append(
            Device(
                id=row.id,
                uuid=row.uuid,
                index=row.index,
                model=row.model,
                memory_bytes=row.memory_bytes,
                share_free=usage.share - usage.share_used,
                memory_free_bytes=usage.memory_bytes - usage.memory_used_bytes,
                instance=row.parent_uuid is not None,
                unfit=unfit(row, usage, now),
            )
        )
    return [
        Node(
            id=row.id,
            name=row.name,
            cpus_free_millis=usage.cpus_millis - usage.cpus_used_millis,
            memory_free_bytes=usage.memory_bytes - usage.memory_used_bytes,
            devices=tuple(devices[row.id]),
            closed=_closed(row, disk_reserve_bytes),
            labels=row.labels,
            links=_links(row.topology),
            reserved=promised.get(row.id, ()),
        )
        for row, usage in session.execute(sa.select(NodeRow, NodeUsage).join(NodeUsage))
    ]


def snapshot(session: Session, waiting: list[Waiting], now: datetime, *, disk_reserve_bytes: int) -> Snapshot:
    """The whole picture for those that wait."""
    return Snapshot(
        nodes(session, now, disk_reserve_bytes=disk_reserve_bytes),
        waiting,
        typical(session),
        now,
        standings=fairness.standings(session, now) if len({lease.project for lease in waiting}) > 1 else {},
    )


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
