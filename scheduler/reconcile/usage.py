"""Stage: watch how devices are, and seal each hour of use once all that belongs to it is known.

A node's hours are sealed in order, each in one transaction with the mark that says so: what is killed in between has
done nothing, and two schedulers never seal the same one. A sealed hour changes no more. An hour waits for every
container of which nobody knows yet whether it ran to its end: while an engine is away, its node's hours are counted
when somebody asks, and sealed when it is back.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.database import Sessions, now
from leasing.model import (
    Counting,
    DeviceHour,
    DeviceSpan,
    Lease,
    Node,
    Run,
    RunSpan,
    RunUse,
    UsageHour,
)
from leasing.service import counting
from leasing.service.counting import COLUMN
from leasing.service.used import HOUR
from leasing.settings.usage import UsageSettings
from leasing.states import LeaseState
from scheduler.clock import Clock
from scheduler.reconcile import conditions

log = logging.getLogger(__name__)
SETTLE = timedelta(seconds=60)
"""After its end an hour waits so long: for samples on their way, and for a sampler's silence to be noticed, which is
dated back to its last word."""
BATCH = 48
"""So many hours are sealed in a pass at most, a transaction each."""
STEADY = timedelta(minutes=15)
"""After a jump of the clock nothing is sealed for so long: an hour that is to come would be sealed for good."""

# Handed over as one value each: an hour may have thousands of rows.
RUNS, DEVICES = (
    sa.text(
        f"INSERT INTO {hours} SELECT * FROM jsonb_populate_recordset(NULL::{hours}, CAST(:rows AS jsonb))"  # noqa: S608 - of a table's name
    )
    for hours in (UsageHour.__tablename__, DeviceHour.__tablename__)
)
TOTALS = sa.text(f"""
    INSERT INTO device_total (device_id, {", ".join(COLUMN.values())})
    SELECT device_id, {", ".join(COLUMN.values())}
    FROM device_hour JOIN device ON device.id = device_id
    WHERE hour = :hour AND device.node_id = ANY (:nodes)
    ON CONFLICT (device_id) DO UPDATE
    SET {", ".join(f"{name} = device_total.{name} + excluded.{name}" for name in COLUMN.values())}
""")  # noqa: S608 - of names of columns


def run_once(sessions: Sessions, clock: Clock) -> int:
    """How many hours of nodes were sealed."""
    with sessions() as session:
        moment = now(session)
    clock.watch(moment)
    with sessions.begin() as session:
        _begin(session)
        conditions.look(session, _locked(session), now=moment)
    if clock.thaw(STEADY, moment) is not None:
        return 0
    sealed = 0
    for _ in range(BATCH):
        with sessions.begin() as session:
            found = _seal_next(session, moment)
        if not found:
            break
        sealed += found
    return sealed


def prune(session: Session, settings: UsageSettings, *, now: datetime) -> None:
    """Let go of what sealed hours were counted from, and of hours that are too old."""
    before = now - timedelta(days=settings.spans_days)
    sealed = sa.select(sa.func.min(Counting.sealed_until)).scalar_subquery()
    session.execute(sa.delete(DeviceSpan).where(DeviceSpan.until < before, DeviceSpan.until < sealed))
    over = sa.exists().where(
        Run.id == RunSpan.run_id, Lease.id == Run.lease_id, Lease.state == LeaseState.ENDED
    )
    session.execute(sa.delete(RunSpan).where(RunSpan.until < before, RunSpan.until < sealed, over))
    of_run = sa.select(Counting.sealed_until).join(Run, Run.node_id == Counting.node_id)
    session.execute(
        sa.delete(RunUse).where(RunUse.hour < of_run.where(Run.id == RunUse.run_id).scalar_subquery())
    )
    old = now - timedelta(days=settings.keep_days)
    for hours in (UsageHour, DeviceHour):
        session.execute(sa.delete(hours).where(hours.hour < old))


def _begin(session: Session) -> None:
    """Counting of a node begins with the hour in which it joined."""
    joined = sa.select(Node.id, sa.func.date_trunc("hour", Node.created_at, "UTC"))
    new = joined.where(~sa.exists().where(Counting.node_id == Node.id))
    session.execute(insert(Counting).from_select(["node_id", "sealed_until"], new).on_conflict_do_nothing())


def _locked(session: Session) -> dict[UUID, Counting]:
    """Of all nodes but those that another scheduler is at."""
    rows = session.execute(
        sa.select(Counting)
        .order_by(Counting.node_id)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    ).scalars()
    return {one.node_id: one for one in rows}


def _seal_next(session: Session, now: datetime) -> int:
    """Seal the oldest hour that can be, of every node that stands there; how many nodes that were."""
    due: dict[datetime, list[Counting]] = defaultdict(list)
    for far in _locked(session).values():
        end = far.sealed_until + HOUR
        if now >= end + SETTLE and far.looked_at is not None and far.looked_at >= end:
            due[far.sealed_until].append(far)
    for hour in sorted(due):
        waits = counting.open_ends(session, [far.node_id for far in due[hour]], hour + HOUR)
        ready = [far for far in due[hour] if far.node_id not in waits]
        if ready:
            _seal(session, ready, hour, now)
            return len(ready)
    return 0


def _seal(session: Session, nodes: list[Counting], hour: datetime, now: datetime) -> None:
    ids = [far.node_id for far in nodes]
    hours = counting.count(session, dict.fromkeys(ids, hour), until=hour + HOUR, now=now)
    session.execute(RUNS, {"rows": json.dumps(hours.runs, default=str)})
    session.execute(DEVICES, {"rows": json.dumps(hours.devices, default=str)})
    session.execute(TOTALS, {"hour": hour, "nodes": ids})
    session.execute(
        sa.delete(RunUse).where(RunUse.hour <= hour, RunUse.run_id == Run.id, Run.node_id.in_(ids))
    )
    for far in nodes:
        far.sealed_until = hour + HOUR
    log.info("hour sealed hour=%s nodes=%d runs=%d", hour.isoformat(), len(ids), len(hours.runs))
