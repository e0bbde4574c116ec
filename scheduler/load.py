"""Rows → snapshot: a few statements, whatever the size of the cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
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
from leasing.service import policies
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


class _Condition(NamedTuple):
    """Of a device, for `unfit`."""

    intent: str
    quarantined_since: datetime | None
    quarantine_reason: str
    health: str
    health_reason: str
    mig_enabled: bool
    sampled_at: datetime | None
    cleared_at: datetime | None
    foreign_since: datetime | None


class _Governed(NamedTuple):
    """What decides which policy counts for a lease."""

    id: UUID
    owner_id: UUID
    project_id: UUID
    image: str
    idle_timeout_seconds: int | None


# Made once, and not in each pass: to put a statement together costs as much as to run it.
_NOW = sa.bindparam("now", type_=sa.DateTime(timezone=True))
_LIVE = sa.and_(
    Reservation.state.in_([ReservationState.BOOKED, ReservationState.USED]), Reservation.ends_at > _NOW
)
_KEPT_ON = sa.orm.aliased(NodeRow)
"""Who waits to go on is bound to the node that keeps its files, unless that is being drained: then it is moved."""
QUEUE = (
    sa.select(
        Lease.id, Lease.name, Lease.wait, sa.func.coalesce(_KEPT_ON.id, Workspace.node_id),
        Lease.ttl_seconds, Lease.until,
        sa.func.coalesce(Lease.at_least_seconds, sa.bindparam("at_least_seconds", type_=sa.Integer)),
        Lease.node_name, Lease.node_labels, Reservation.id, Project.name, Lease.priority, Lease.preemptible,
        Lease.arrival, *ASKED,
    )
    .join(Project, Project.id == Lease.project_id)
    .outerjoin(Workspace, Workspace.id == Lease.workspace_id)
    .outerjoin(_KEPT_ON, sa.and_(_KEPT_ON.id == Lease.kept_node_id, _KEPT_ON.intent != NodeIntent.DRAINING))
    .outerjoin(Reservation, sa.and_(Reservation.id == Lease.reservation_id, _LIVE))
    .where(Lease.state == LeaseState.QUEUED, sa.or_(Lease.retry_at.is_(None), Lease.retry_at <= _NOW))
    .order_by(Lease.arrival)
)  # fmt: skip
RESERVED = (
    sa.select(
        Reservation.id, Reservation.name, Reservation.node_id, Reservation.cpus_millis, Reservation.memory_bytes,
        Reservation.starts_at, Reservation.ends_at, sa.func.array_agg(ReservedDevice.device_id),
    )
    .join(ReservedDevice, sa.and_(ReservedDevice.reservation_id == Reservation.id, ReservedDevice.live))
    .where(_LIVE)
    .group_by(Reservation.id)
)  # fmt: skip
ALLOCATED = sa.select(
    Allocation.run_id, Allocation.device_id, Allocation.share, Allocation.memory_bytes
).where(Allocation.released_at.is_(None))
HELD = (
    sa.select(
        Run.id, Run.lease_id, Run.node_id, Run.cpus_millis, Run.memory_bytes, Run.started_at,
        Lease.owner_id, Lease.image, Lease.state, Lease.ends_at, Lease.until, Lease.ttl_seconds,
    )
    .join(Lease, Lease.id == Run.lease_id)
    .where(Run.released_at.is_(None))
)  # fmt: skip
DEVICES = (
    sa.select(
        DeviceRow.node_id, DeviceRow.id, DeviceRow.uuid, DeviceRow.index, DeviceRow.model, DeviceRow.memory_bytes,
        DeviceRow.parent_uuid, DeviceUsage.share - DeviceUsage.share_used,
        DeviceUsage.memory_bytes - DeviceUsage.memory_used_bytes, DeviceUsage.released_at,
        *(getattr(DeviceRow, name) for name in _Condition._fields),
    )
    .join(DeviceUsage)
    .where(DeviceUsage.share == WHOLE, DeviceRow.health != DeviceHealth.RETIRED)
    .order_by(DeviceRow.index)
)  # fmt: skip
NODES = sa.select(
    NodeRow.id, NodeRow.name, NodeUsage.cpus_millis - NodeUsage.cpus_used_millis,
    NodeUsage.memory_bytes - NodeUsage.memory_used_bytes, NodeRow.intent, NodeRow.health, NodeRow.health_reason,
    NodeRow.engine, NodeRow.labels, NodeRow.topology,
).join(NodeUsage)  # fmt: skip
_LATELY = sa.select(*ASKED).order_by(Lease.arrival.desc()).limit(LATELY).subquery()
TYPICAL = (
    sa.select(*_LATELY.c, sa.func.count().label("times"))
    .where(_LATELY.c.gpu_count > 0)
    .group_by(*_LATELY.c)
    .order_by(sa.desc("times"))
    .limit(KINDS)
)


def queue(session: Session, now: datetime, *, at_least_seconds: int) -> list[Waiting]:
    """Who waits, as they came. A lease that may not be tried again yet is not among them.

    `at_least_seconds`: to which a reservation may cut the time of who does not say.
    """
    rows = session.execute(QUEUE, {"now": now, "at_least_seconds": at_least_seconds})
    return [
        Waiting(
            lease_id, name, _request(*asked), wait, node_id, float(seconds or 0), until, float(at_least), node_name,
            labels, reservation_id, project, priority, preemptible, arrival,
        )
        for lease_id, name, wait, node_id, seconds, until, at_least, node_name, labels, reservation_id, project,
            priority, preemptible, arrival, *asked in rows
    ]  # fmt: skip


def reserved(session: Session, now: datetime) -> dict[UUID, list[Reserved]]:
    """By node, what is promised from now on; of CPUs and memory, what nobody has under it yet."""
    rows = session.execute(RESERVED, {"now": now}).all()
    if not rows:
        return {}
    used = {
        reservation_id: (cpus, memory)
        for reservation_id, cpus, memory in session.execute(
            sa.select(Lease.reservation_id, sa.func.sum(Run.cpus_millis), sa.func.sum(Run.memory_bytes))
            .join(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
            .where(Lease.reservation_id.in_([reservation_id for reservation_id, *_ in rows]))
            .group_by(Lease.reservation_id)
        )
    }
    found: dict[UUID, list[Reserved]] = defaultdict(list)
    for reservation_id, name, node_id, cpus_millis, memory_bytes, starts_at, ends_at, devices in rows:
        cpus, memory = used.get(reservation_id, (0, 0))
        found[node_id].append(
            Reserved(
                reservation_id, name, frozenset(devices), max(0, cpus_millis - cpus),
                max(0, memory_bytes - int(memory)), starts_at, ends_at,
            )
        )  # fmt: skip
    return found


def yielding(session: Session, held: Mapping[UUID, Held]) -> list[Yielding]:
    """The running leases that may be suspended for others; `held` is what each lease holds."""
    rows = session.execute(
        sa.select(
            Lease.id, Lease.owner_id, Lease.project_id, Lease.image, Lease.idle_timeout_seconds,
            Lease.name, Project.name, Lease.priority, Run.started_at, *ASKED,
        )
        .join(Project, Project.id == Lease.project_id)
        .join(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
        .where(Lease.state == LeaseState.RUNNING, Lease.preemptible)
    ).all()  # fmt: skip
    rules = policies.effective(session, [_Governed(*row[:5]) for row in rows])
    return [
        Yielding(
            lease_id, name, held[lease_id], project, priority, since, _request(*asked).worth,
            timedelta(seconds=rules[lease_id].protected_seconds),
        )
        for lease_id, _, _, _, _, name, project, priority, since, *asked in rows
        if since is not None
    ]  # fmt: skip


def held(session: Session, now: datetime) -> dict[UUID, Held]:
    """What each lease that has not ended has taken, with when it will be free; one being stopped is about to be."""
    parts: dict[UUID, list[tuple[UUID, int, int]]] = defaultdict(list)
    for run_id, device_id, share, memory in session.execute(ALLOCATED):
        parts[run_id].append((device_id, share, memory))
    usual = history.behaviour(session, now)
    return {
        lease_id: Held(
            node_id,
            cpus_millis,
            memory_bytes,
            parts[run_id],
            until := now if state == LeaseState.STOPPING else _deadline(ends_at, at, seconds, now),
            usual.likely_end(str(owner), image, started=started_at or now, deadline=until, now=now),
        )
        for run_id, lease_id, node_id, cpus_millis, memory_bytes, started_at, owner, image, state, ends_at, at, seconds
        in session.execute(HELD)
    }  # fmt: skip


def _deadline(
    ends_at: datetime | None, until: datetime | None, seconds: int | None, now: datetime
) -> datetime:
    return ends_at or until or now + timedelta(seconds=seconds or 0)


def typical(session: Session) -> list[tuple[Request, float]]:
    """What has been asked for lately, with how often: what will probably be asked for next."""
    rows = session.execute(TYPICAL)
    return [(_request(*asked), float(times)) for *asked, times in rows]


def _request(
    count: int, model: str | None, share: int, device_memory: int | None, cpus_millis: int, memory_bytes: int
) -> Request:
    return Request(GpuAsk(count, model, share, device_memory), cpus_millis, memory_bytes)


def nodes(session: Session, now: datetime, *, disk_reserve_bytes: int) -> list[Node]:
    """Every node with what is free on it, and what is promised."""
    promised = reserved(session, now)
    devices: dict[UUID, list[Device]] = defaultdict(list)
    for (
        node_id,
        device_id,
        uuid,
        index,
        model,
        memory,
        parent,
        share_free,
        memory_free,
        released_at,
        *condition,
    ) in session.execute(DEVICES):
        devices[node_id].append(
            Device(
                id=device_id,
                uuid=uuid,
                index=index,
                model=model,
                memory_bytes=memory,
                share_free=share_free,
                memory_free_bytes=memory_free,
                instance=parent is not None,
                unfit=unfit(_Condition(*condition), released_at, now),
            )
        )
    return [
        Node(
            id=node_id,
            name=name,
            cpus_free_millis=cpus_free,
            memory_free_bytes=memory_free,
            devices=tuple(devices[node_id]),
            closed=_closed(intent, health, reason, engine.get("disk_free_bytes"), disk_reserve_bytes),
            labels=labels,
            links=_links(topology),
            reserved=promised.get(node_id, ()),
        )
        for node_id, name, cpus_free, memory_free, intent, health, reason, engine, labels, topology in (
            session.execute(NODES)
        )
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


def _closed(intent: str, health: str, reason: str, free: int | None, disk_reserve_bytes: int) -> str | None:
    if intent != NodeIntent.OPEN and health != NodeHealth.LOST:
        return f"is {intent} by an admin"
    if health != NodeHealth.READY:
        return f"is {health}: {reason or 'its engine does not answer'}"
    if free is not None and free < disk_reserve_bytes:
        return f"has only {format_size(free)} of disk left, under the reserve of {format_size(disk_reserve_bytes)}"
    return None


def _links(topology: list[Any]) -> dict[frozenset[str], int]:
    return {frozenset((link["a"], link["b"])): int(link["rank"]) for link in topology}
