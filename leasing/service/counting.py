"""Counting hours of use from intervals: when containers ran, what they held, and how devices were.

Nothing is ticked: the same intervals give the same hours, whenever and however often they are counted. An hour that is
sealed is read from its rows, one that is not is counted when it is asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.accounting import Condition, Count, DeviceClass, Hold, Span, Was, classify, covered
from leasing.model import Allocation, Counting, Device, DeviceSpan, Lease, Run, RunSpan, RunUse
from leasing.service.used import HOUR, MACHINE, hour_of
from leasing.states import LeaseState

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)
NANO = 10**9
SILENT = timedelta(seconds=60)
"""A container that nobody has looked at for so long is counted up to when somebody last did."""
MOST_HOURS = 24 * 31
"""So many hours that are not sealed are counted at most, the latest; more than a month behind is a fault to mend."""

COLUMN = {one: "foreign_use" if one is DeviceClass.FOREIGN else one.value for one in DeviceClass}
"""Of `device_hour`: `foreign` is a word of SQL."""


@dataclass
class Hours:
    """Rows as `usage_hour` and `device_hour` have them."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Run:
    lease_id: UUID
    owner_id: UUID
    project_id: UUID
    node_id: UUID
    cpus_millis: int
    memory_bytes: int


@dataclass
class _Facts:
    """Every interval that touches the time to be counted."""

    runs: dict[UUID, _Run]
    ran: dict[UUID, tuple[Span, ...]]
    holds: dict[UUID, list[Hold]]
    conditions: dict[UUID, list[Was]]
    devices: Sequence[tuple[UUID, UUID, str, int]]
    used: dict[tuple[UUID, datetime], dict[str, tuple[float, float, float]]]


def unsealed(session: Session, *, since: datetime, until: datetime, now: datetime) -> Hours:
    """What is not sealed yet of the hours from `since` to `until`, of all nodes, up to now."""
    begins = {
        node_id: max(sealed_until, hour_of(since), hour_of(now) - MOST_HOURS * HOUR)
        for node_id, sealed_until in session.execute(sa.select(Counting.node_id, Counting.sealed_until))
        if sealed_until < until
    }
    return count(session, begins, until=min(until, now), now=now)


def count(session: Session, begins: Mapping[UUID, datetime], *, until: datetime, now: datetime) -> Hours:
    """The hours of nodes, each node's from its own full hour in `begins` on; the last may be cut short by `until`."""
    begins = {node_id: begin for node_id, begin in begins.items() if begin < until}
    found = Hours()
    if not begins:
        return found
    facts = _load(session, list(begins), min(begins.values()), until, now)
    leased: dict[tuple[UUID, datetime], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for device_id, node_id, model, there in facts.devices:
        for hour, window in _windows(begins[node_id], until):
            counted = classify(
                window, there=there, holds=facts.holds[device_id], conditions=facts.conditions[device_id]
            )
            for run_id, time in counted.leased.items():
                leased[run_id, hour][model] += time
            if counted.capacity:
                found.devices.append(_device_row(device_id, hour, counted))
    for run_id, run in facts.runs.items():
        for hour, window in _windows(begins[run.node_id], until):
            ran = covered(facts.ran[run_id], window)
            if ran:
                models = leased.get((run_id, hour), {})
                used = facts.used.get((run_id, hour), {})
                found.runs += _run_rows(run_id, run, hour, ran, models, used)
    return found


def open_ends(session: Session, nodes: Iterable[UUID], until: datetime) -> set[UUID]:
    """Nodes with a container of which nobody has proof yet that it ran until then, or that it did not."""
    proven = sa.and_(Lease.state == LeaseState.RUNNING, Counting.compared_at >= until)
    return set(
        session.execute(
            sa.select(Run.node_id)
            .join(RunSpan, RunSpan.run_id == Run.id)
            .join(Lease, Lease.id == Run.lease_id)
            .outerjoin(Counting, Counting.node_id == Run.node_id)
            .where(
                Run.node_id.in_(list(nodes)),
                RunSpan.until.is_(None),
                RunSpan.since < until,
                sa.not_(sa.func.coalesce(proven, False)),
            )
        ).scalars()
    )


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // MICRO


def _windows(begin: datetime, until: datetime) -> Iterable[tuple[datetime, Span]]:
    hour = begin
    while hour < until:
        yield hour, Span(micros(hour), micros(min(hour + HOUR, until)))
        hour += HOUR


def _load(session: Session, nodes: list[UUID], since: datetime, until: datetime, now: datetime) -> _Facts:
    touches = sa.and_(Run.node_id.in_(nodes), sa.or_(Run.released_at.is_(None), Run.released_at > since))
    runs, ran = _runs(session, touches, since, until, now)
    devices = session.execute(
        sa.select(Device.id, Device.node_id, Device.model, Device.created_at)
        .where(Device.node_id.in_(nodes), Device.created_at < until)
        .order_by(Device.id)
    ).all()
    return _Facts(
        runs=runs,
        ran=ran,
        holds=_holds(session, touches, ran, until),
        conditions=_conditions(session, nodes, since, until),
        devices=[(device_id, node_id, model, micros(there)) for device_id, node_id, model, there in devices],
        used=_used(session, touches, since, until),
    )


def _runs(
    session: Session, touches: sa.ColumnElement[bool], since: datetime, until: datetime, now: datetime
) -> tuple[dict[UUID, _Run], dict[UUID, tuple[Span, ...]]]:
    rows = session.execute(
        sa.select(
            Run.id, Run.lease_id, Lease.owner_id, Lease.project_id, Run.node_id, Run.cpus_millis, Run.memory_bytes,
            Lease.state, Counting.compared_at, RunSpan.since, RunSpan.until,
        )
        .join(Lease, Lease.id == Run.lease_id)
        .join(RunSpan, RunSpan.run_id == Run.id)
        .outerjoin(Counting, Counting.node_id == Run.node_id)
        .where(touches, RunSpan.since < until, sa.or_(RunSpan.until.is_(None), RunSpan.until > since))
        .order_by(Run.id, RunSpan.since)
    )  # fmt: skip
    runs: dict[UUID, _Run] = {}
    ran: dict[UUID, list[Span]] = defaultdict(list)
    for run_id, *facts, state, compared_at, begin, end in rows:
        runs[run_id] = _Run(*facts)
        last = end or until
        if end is None and state == LeaseState.RUNNING and compared_at and now - compared_at > SILENT:
            last = min(until, max(begin, compared_at))
        ran[run_id].append(Span(micros(begin), micros(last)))
    return runs, defaultdict(tuple, {run_id: tuple(spans) for run_id, spans in ran.items()})


def _holds(
    session: Session, touches: sa.ColumnElement[bool], ran: Mapping[UUID, tuple[Span, ...]], until: datetime
) -> dict[UUID, list[Hold]]:
    rows = session.execute(
        sa.select(
            Allocation.device_id, Allocation.run_id, Allocation.share, Allocation.created_at, Allocation.released_at
        )
        .join(Run, Run.id == Allocation.run_id)
        .where(touches, Allocation.created_at < until)
    )  # fmt: skip
    holds: dict[UUID, list[Hold]] = defaultdict(list)
    for device_id, run_id, share, begin, end in rows:
        during = Span(micros(begin), micros(until if end is None else max(begin, end)))
        holds[device_id].append(Hold(run_id, share, during, ran.get(run_id, ())))
    return holds


def _conditions(
    session: Session, nodes: list[UUID], since: datetime, until: datetime
) -> dict[UUID, list[Was]]:
    rows = session.execute(
        sa.select(DeviceSpan.device_id, DeviceSpan.condition, DeviceSpan.since, DeviceSpan.until)
        .join(Device, Device.id == DeviceSpan.device_id)
        .where(
            Device.node_id.in_(nodes),
            DeviceSpan.since < until,
            sa.or_(DeviceSpan.until.is_(None), DeviceSpan.until > since),
        )
    )
    found: dict[UUID, list[Was]] = defaultdict(list)
    for device_id, condition, begin, end in rows:
        during = Span(micros(begin), micros(until if end is None else end))
        found[device_id].append(Was(Condition(condition), during))
    return found


def _used(
    session: Session, touches: sa.ColumnElement[bool], since: datetime, until: datetime
) -> dict[tuple[UUID, datetime], dict[str, tuple[float, float, float]]]:
    rows = session.execute(
        sa.select(
            RunUse.run_id, RunUse.hour, RunUse.model, RunUse.measured, RunUse.used, RunUse.memory_byte_seconds
        )
        .join(Run, Run.id == RunUse.run_id)
        .where(touches, RunUse.hour >= since, RunUse.hour < until)
    )
    found: dict[tuple[UUID, datetime], dict[str, tuple[float, float, float]]] = defaultdict(dict)
    for run_id, hour, model, measured, used, memory in rows:
        found[run_id, hour][model] = measured, used, memory
    return found


def _device_row(device_id: UUID, hour: datetime, count: Count) -> dict[str, Any]:
    classes = {COLUMN[one]: time for one, time in count.classes.items()}
    return {"device_id": device_id, "hour": hour, "capacity": count.capacity} | classes


def _run_rows(
    run_id: UUID,
    run: _Run,
    hour: datetime,
    ran: int,
    models: Mapping[str, int],
    used: Mapping[str, tuple[float, float, float]],
) -> Iterable[dict[str, Any]]:
    whose = {"run_id": run_id, "hour": hour, "lease_id": run.lease_id, "owner_id": run.owner_id,
             "project_id": run.project_id, "ran_ns": ran * 1000}  # fmt: skip
    seconds = ran * 1000 / NANO
    measured, cpu, memory = _within(used.get(MACHINE), seconds)
    yield whose | {
        "model": MACHINE, "allocated_ns": 0, "cpu_allocated_ns": ran * run.cpus_millis,
        "memory_allocated_byte_seconds": seconds * run.memory_bytes, "measured_seconds": measured,
        "used_seconds": cpu, "memory_used_byte_seconds": memory,
    }  # fmt: skip
    for model, allocated in sorted(models.items()):
        measured, busy, _ = _within(used.get(model), allocated / NANO)
        yield whose | {
            "model": model, "allocated_ns": allocated, "cpu_allocated_ns": 0, "memory_allocated_byte_seconds": 0.0,
            "measured_seconds": measured, "used_seconds": busy, "memory_used_byte_seconds": None,
        }  # fmt: skip


def _within(
    found: tuple[float, float, float] | None, allocated: float
) -> tuple[float, float | None, float | None]:
    """What was measured, no more than was allocated: samples run a little past a container's end."""
    if found is None or found[0] <= 0 or allocated <= 0:
        return 0.0, None, None
    part = min(1.0, allocated / found[0])
    measured, used, memory = (part * one for one in found)
    return measured, used, memory
