"""Leases and the queue as people see them: rows → wire models, a fixed number of statements for any page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Session

from leasing import access, names
from leasing.access import Action, Standing
from leasing.errors import Invalid
from leasing.model import (
    Allocation,
    AllocationSample,
    Device,
    Lease,
    Node,
    Project,
    Reservation,
    Run,
    User,
    Workspace,
)
from leasing.schema.endpoint import EndpointOptions
from leasing.schema.lease import (
    DeviceOut,
    LeaseOut,
    LeasePage,
    QueueEntryOut,
    QueueOut,
    QueuePage,
    RequestOut,
    WhyOut,
)
from leasing.service import (
    device_memory,
    forecasts,
    idle_views,
    keeps,
    notices,
    policymaking,
    standings,
    suspension,
)
from leasing.service.principal import Principal
from leasing.states import LIVE, Goal, LeaseState, Priority, SuspendReason
from leasing.units import format_duration

MAX_PAGE = 500
IN_ORDER = (Lease.rank.asc().nulls_last(), Lease.arrival)
"""The order of service, as the planner last wrote it down."""
_SHARED = orm.aliased(Project)
_WORKSPACE = (
    sa.func.coalesce(_SHARED.name + "/", "")
    + Workspace.name
    + sa.case((Lease.workspace_read_only, names.READ_ONLY), else_="")
)
"""As it was asked for."""
UNPLACED = (LeaseState.QUEUED, LeaseState.SUSPENDED, LeaseState.ENDED)
"""States in which a lease has no open run."""


def lease_out(
    session: Session, lease: Lease, *, principal: Principal, now: datetime, endpoints: Callable[[str], str]
) -> LeaseOut:
    """One lease, as the principal sees it. `endpoints` says where the endpoint of the lease of a name answers."""
    found = _leases_out(session, [lease], principal=principal, now=now, endpoints=endpoints)[0]
    if lease.state == LeaseState.RUNNING:
        found.idle, found.keep = idle_views.in_full(session, lease, now=now), keeps.of(session, lease)
    return found


def lease_page(  # noqa: PLR0913 - a query's filters, each by name
    session: Session,
    *,
    principal: Principal,
    everyone: bool,
    ended: bool,
    state: str | None,
    cursor: str | None,
    limit: int,
    now: datetime,
    endpoints: Callable[[str], str],
) -> LeasePage:
    """Newest first: those that `standings.listed` says. `cursor` is the last page's `next`."""
    statement = (
        sa.select(Lease)
        .where(standings.listed(principal, everyone=everyone))
        .order_by(Lease.arrival.desc())
        .limit(min(limit, MAX_PAGE) + 1)
    )
    if state is not None:
        statement = statement.where(Lease.state == state)
    elif not ended:
        statement = statement.where(Lease.state != LeaseState.ENDED)
    if cursor is not None:
        statement = statement.where(Lease.arrival < _cursor(cursor))
    leases = session.execute(statement).scalars().all()
    page, more = leases[: min(limit, MAX_PAGE)], len(leases) > min(limit, MAX_PAGE)
    return LeasePage(
        items=_leases_out(session, page, principal=principal, now=now, endpoints=endpoints),
        next=str(page[-1].arrival) if more else None,
    )


def queue(session: Session, *, now: datetime) -> QueuePage:
    """Who waits, in the order in which they will be served, and how good forecasts have been."""
    rows = session.execute(
        sa.select(Lease, User.name, Project.name)
        .join(User, User.id == Lease.owner_id)
        .join(Project, Project.id == Lease.project_id)
        .where(Lease.state == LeaseState.QUEUED)
        .order_by(*IN_ORDER)
    ).all()
    return QueuePage(
        items=[
            QueueEntryOut(
                position=position,
                lease=lease.name,
                owner=owner,
                project=project,
                priority=Priority.of(lease.priority),
                gpu=str(lease.gpu),
                cpus=lease.cpus_millis / 1000,
                memory_bytes=lease.memory_bytes,
                queued_at=lease.queued_at,
                blockers=lease.blockers,
                expected_start=lease.expected_start,
                latest_start=lease.latest_start,
            )
            for position, (lease, owner, project) in enumerate(rows, start=1)
        ],
        accuracy=forecasts.accuracy(session, now),
    )


def why(session: Session, lease: Lease, *, now: datetime) -> WhyOut:
    """Why the lease is where it is, in words, with every blocker the planner last saw."""
    position = _position(session, lease)
    return WhyOut(
        state=lease.state,
        summary=_summary(lease, position, now),
        policy=policymaking.for_leases(session, [lease])[lease.id].said if lease.state in LIVE else None,
        position=position,
        blockers=lease.blockers if position else [],
        expected_start=lease.expected_start if position else None,
        latest_start=lease.latest_start if position else None,
    )


def _summary(lease: Lease, position: int | None, now: datetime) -> str:
    match LeaseState(lease.state):
        case LeaseState.QUEUED if lease.suspend_reason is not None:
            return (
                f"It was {'preempted' if lease.suspend_reason == SuspendReason.PREEMPTED else 'suspended'} "
                f"({_words(lease.message)}) and waits to go on with its files, number {position} in the queue."
            )
        case LeaseState.QUEUED:
            return f"It waits for room, number {position} in the queue."
        case LeaseState.PLACED | LeaseState.STARTING:
            return f"It has its place and is being started: {lease.progress or 'a worker will take it up'}."
        case LeaseState.RUNNING:
            left = format_duration((lease.ends_at - now).total_seconds()) if lease.ends_at else "?"
            idle = f" {lease.idle_reason[0].upper()}{lease.idle_reason[1:]}." if lease.idle_reason else ""
            missing = f" {lease.message[0].upper()}{lease.message[1:]}." if lease.message else ""
            return f"It runs, with {left} left.{missing}{idle}"
        case LeaseState.STOPPING:
            doing = "suspended" if lease.goal == Goal.SUSPENDED else "stopped"
            return f"It is being {doing}: {_words(lease.message)}."
        case LeaseState.SUSPENDED:
            left = f", with {format_duration(lease.ttl_seconds)} left" if lease.ttl_seconds else ""
            until = f" until {lease.retain_until:%Y-%m-%d %H:%M %Z}" if lease.retain_until else ""
            said = f"It is suspended: {_words(lease.message)}. Its files are kept{until}{left}."
            anew = "" if suspension.has_time(lease, now) else " --for 4h"
            woken = lease.suspend_reason == SuspendReason.IDLE and lease.endpoint.get("wake")
            return f"{said} Go on: lease resume {lease.name}{anew}{', or call its endpoint' if woken else ''}"
        case LeaseState.ENDED:
            return f"It ended ({lease.reason}): {lease.message}."


def _words(message: str) -> str:
    return message.rstrip(".")


def _leases_out(
    session: Session,
    leases: Sequence[Lease],
    *,
    principal: Principal,
    now: datetime,
    endpoints: Callable[[str], str],
) -> list[LeaseOut]:
    if not leases:
        return []
    named = _names(session, leases)
    placed = [lease.id for lease in leases if lease.state not in UNPLACED]
    runs, devices, warnings = _places(session, placed, now)
    warned = notices.standing(session, leases, now=now)
    standing = standings.of(session, leases, principal)
    ruled = policymaking.for_leases(session, [lease for lease in leases if lease.state != LeaseState.ENDED])
    return [
        LeaseOut(
            id=lease.id,
            name=lease.name,
            state=lease.state,
            goal=lease.goal,
            reason=lease.reason,
            message=lease.message,
            owner=named[lease.id].owner,
            project=named[lease.id].project,
            shared=lease.shared,
            may=list(access.may(standing[lease.id])),
            image=lease.image,
            request=_request(lease, named[lease.id], standing[lease.id]),
            devices=devices[lease.id],
            node=runs.get(lease.id),
            endpoint_url=endpoints(lease.name) if lease.port else None,
            endpoint=EndpointOptions.model_validate(lease.endpoint),
            progress=lease.progress,
            created_at=lease.created_at,
            started_at=lease.started_at,
            ends_at=lease.ends_at,
            ended_at=lease.ended_at,
            exit_code=lease.exit_code,
            oom_killed=lease.oom_killed,
            last_log=lease.last_log,
            warning=warnings.get(lease.id),
            reclaim_at=lease.reclaim_at,
            notices=warned.get(lease.id, []),
            device_fault=lease.device_fault or None,
            suspend_reason=lease.suspend_reason,
            suspended_at=lease.suspended_at,
            keeps=lease.keeps or None,
            kept_bytes=lease.kept_bytes,
            retain_until=lease.retain_until,
            idle=idle_views.brief(lease, now),
            policy=ruled.get(lease.id),
            queue=QueueOut(
                position=named[lease.id].position,
                expected_start=lease.expected_start,
                latest_start=lease.latest_start,
                blockers=lease.blockers,
            )
            if named[lease.id].position
            else None,
        )
        for lease in leases
    ]


def _request(lease: Lease, named: sa.Row[Any], standing: Standing) -> RequestOut:
    inside = access.decide(Action.ENTER, standing) is None
    return RequestOut(
        gpu=str(lease.gpu),
        cpus=lease.cpus_millis / 1000,
        memory_bytes=lease.memory_bytes,
        shm_bytes=lease.shm_bytes,
        ttl_seconds=lease.ttl_seconds,
        until=lease.until,
        idle_timeout_seconds=lease.idle_timeout_seconds,
        command=lease.command,
        on_suspend=lease.on_suspend,
        env=lease.env if inside else {},
        port=lease.port,
        workspace=named.workspace,
        priority=Priority.of(lease.priority),
        preemptible=lease.preemptible,
        node=lease.node_name,
        labels=lease.node_labels,
        reservation=named.reservation,
        at_least_seconds=lease.at_least_seconds,
        wait=lease.wait,
    )


def _names(session: Session, leases: Sequence[Lease]) -> dict[UUID, sa.Row[Any]]:
    """What each lease's keys stand for, and its place in the queue if it waits: one statement."""
    waiting = any(lease.state == LeaseState.QUEUED for lease in leases)
    ranked = _ranked()
    statement = (
        sa.select(
            Lease.id,
            User.name.label("owner"),
            Project.name.label("project"),
            _WORKSPACE.label("workspace"),
            Reservation.name.label("reservation"),
            (ranked.c.position if waiting else sa.null()).label("position"),
        )
        .join(User, User.id == Lease.owner_id)
        .join(Project, Project.id == Lease.project_id)
        .outerjoin(Workspace, Workspace.id == Lease.workspace_id)
        .outerjoin(_SHARED, _SHARED.id == Workspace.project_id)
        .outerjoin(Reservation, Reservation.id == Lease.reservation_id)
        .where(Lease.id.in_([lease.id for lease in leases]))
    )
    if waiting:  # who waits for nothing is not to pay for the order of those who do
        statement = statement.outerjoin(ranked, ranked.c.id == Lease.id)
    return {row.id: row for row in session.execute(statement)}


def _places(
    session: Session, ids: Sequence[UUID], now: datetime
) -> tuple[dict[UUID, str], dict[UUID, list[DeviceOut]], dict[UUID, str]]:
    """Node name and devices of each lease's open run, and what a lease was warned of."""
    nodes: dict[UUID, str] = {}
    devices: dict[UUID, list[DeviceOut]] = defaultdict(list)
    warnings: dict[UUID, str] = {}
    if not ids:
        return nodes, devices, warnings
    fresh = AllocationSample.at > now - device_memory.UNKNOWN_AFTER
    rows: Sequence[Any] = (
        session.execute(  # an outer join's columns may be None, which its own type does not say
            sa.select(Run.lease_id, Node.name, Allocation, Device, AllocationSample)
            .join(Node, Node.id == Run.node_id)
            .outerjoin(Allocation, sa.and_(Allocation.run_id == Run.id, Allocation.released_at.is_(None)))
            .outerjoin(Device, Device.id == Allocation.device_id)
            .outerjoin(AllocationSample, sa.and_(AllocationSample.allocation_id == Allocation.id, fresh))
            .where(Run.lease_id.in_(ids), Run.released_at.is_(None))
            .order_by(Device.index)
        )
    ).all()
    for lease_id, node, part, device, sample in rows:
        nodes[lease_id] = node
        if device is None:
            continue
        used: int | None = sample.memory_used_bytes if sample is not None else None
        devices[lease_id].append(
            DeviceOut(
                uuid=device.uuid,
                index=device.index,
                model=device.model,
                share=part.share,
                memory_bytes=part.memory_bytes,
                memory_used_bytes=used,
            )
        )
        if sample is not None and sample.warned_at is not None:
            excess = device_memory.excess(device.index, sample.memory_used_bytes, part.memory_bytes)
            way_out = device_memory.way_out(sample.memory_used_bytes, device.memory_bytes)
            warnings[lease_id] = f"It {excess}; it is stopped unless it uses less. {way_out}"
    return nodes, devices, warnings


def _position(session: Session, lease: Lease) -> int | None:
    """Place in the queue, 1 is next; None if it does not wait."""
    if lease.state != LeaseState.QUEUED:
        return None
    ranked = _ranked()
    return session.execute(sa.select(ranked.c.position).where(ranked.c.id == lease.id)).scalar_one_or_none()


def _ranked() -> sa.Subquery:
    """Id and place of all that wait."""
    order = sa.func.row_number().over(order_by=IN_ORDER)
    return sa.select(Lease.id, order.label("position")).where(Lease.state == LeaseState.QUEUED).subquery()


def _cursor(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid(
            f"{text[:40]!r} is not a page's cursor.", hint="Take it from `next` of the page before."
        )
    return int(text)
