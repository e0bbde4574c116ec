"""The stage that judges running leases: active, idle or unknown, with the reason, and since when each is quiet.

It acts on nothing: what comes of a verdict is the reclaimer's.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import Sessions, now
from leasing.model import Lease, Run, SignalKind
from leasing.reclaim import NEVER, Rule
from leasing.service import policies, signals
from leasing.settings.scheduler import SchedulerSettings
from leasing.states import LeaseState
from scheduler.policy.idleness import Judgement, SignalState, judge


def run_once(sessions: Sessions, settings: SchedulerSettings) -> None:
    """Judge every running lease, from what its signals have shown."""
    with sessions.begin() as session:
        judge_all(session, settings, now=now(session))


def judge_all(session: Session, settings: SchedulerSettings, *, now: datetime) -> None:
    """As `run_once`, within a transaction. Rows are written only where something about the verdict has changed."""
    rows = [
        (lease, started_at)
        for lease, started_at in session.execute(
            sa.select(Lease, Run.started_at)
            .join(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
            .where(Lease.state == LeaseState.RUNNING)
            .order_by(Lease.id)
        ).all()
        if started_at is not None
    ]
    rules = policies.effective(session, [lease for lease, _ in rows])
    readings = signals.of(session, [lease.id for lease, _ in rows])
    changed: list[dict[str, object]] = []
    for lease, started_at in rows:
        judged = _judged(lease, rules[lease.id], readings.get(lease.id, {}), started_at, now, settings)
        if (lease.idle_verdict, lease.idle_reason, lease.idle_since) != (
            judged.verdict,
            judged.reason,
            judged.since,
        ):
            changed.append(_written(lease.id, judged))
    if changed:
        # not through the rows read above: a lease that has left this state meanwhile keeps what it was left with
        table = Lease.__table__
        assert isinstance(table, sa.Table)
        session.connection().execute(
            table.update()
            .where(table.c.id == sa.bindparam("lease"), table.c.state == LeaseState.RUNNING)
            .values({name: sa.bindparam(f"new_{name}") for name in WRITTEN}),
            changed,
        )


WRITTEN = ("idle_verdict", "idle_reason", "idle_since")


def _written(lease_id: UUID, judged: Judgement) -> dict[str, object]:
    values = (judged.verdict, judged.reason, judged.since)
    return {"lease": lease_id, **{f"new_{name}": value for name, value in zip(WRITTEN, values, strict=True)}}


def _judged(
    lease: Lease,
    rule: Rule,
    readings: dict[str, signals.Reading],
    started_at: datetime,
    moment: datetime,
    settings: SchedulerSettings,
) -> Judgement:
    states = {
        kind: SignalState(reading.known_since, reading.seen_at, reading.active_at)
        for kind, reading in readings.items()
    }
    window = rule.window_seconds if rule.window_seconds != NEVER else settings.idle_window_seconds
    return judge(
        applicable(lease),
        states,
        started_at=started_at,
        now=moment,
        window=timedelta(seconds=window),
        grace=timedelta(seconds=rule.grace_seconds),
    )


def applicable(lease: Lease) -> frozenset[str]:
    """The signals that say something of this lease; fixed by its request."""
    kinds = {SignalKind.CPU, SignalKind.NETWORK}
    if lease.gpu_count:
        kinds.add(SignalKind.GPU)
    if lease.port is not None:
        kinds.add(SignalKind.ENDPOINT)
    return frozenset(kinds)
