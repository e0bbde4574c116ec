"""The stage that judges running leases: active, idle or unknown, with the reason, and since when each is quiet.

It acts on nothing: what comes of a verdict is the reclaimer's. Once a minute it also records what the signals showed,
from which the same verdicts can be made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import Sessions, now
from leasing.model import Lease, Run
from leasing.reading import FRESH, Reading
from leasing.reclaim import NEVER, Rule
from leasing.service import activity, policies, signals
from leasing.states import LeaseState
from scheduler.policy.idleness import Judgement, judge

WRITTEN = ("idle_verdict", "idle_reason", "idle_since")
SETTLED = FRESH + timedelta(seconds=2)
"""So long after its end it is certain what was heard of a minute without a gap."""


class Verdicts:
    """Judges in each pass; records once a minute."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._recorded: datetime | None = None

    def run_once(self) -> None:
        with self._sessions.begin() as session:
            _judge_all(session, now=now(session))
        with self._sessions.begin() as session:
            moment = now(session)
            minute = moment.replace(second=0, microsecond=0) - signals.MINUTE
            if minute != self._recorded and moment - minute - signals.MINUTE >= SETTLED:
                activity.record(session, minute)
                self._recorded = minute


def again(session: Session, lease: Lease, rule: Rule, *, now: datetime) -> Judgement:
    """The verdict of one running lease as its signals are this moment, whenever it was last written down.

    For who is about to act on it: the pass that writes verdicts may have stood still meanwhile.
    """
    run = session.execute(
        sa.select(Run).where(Run.lease_id == lease.id, Run.released_at.is_(None))
    ).scalar_one()
    heard = signals.of(session, [lease.id]).get(lease.id, {})
    return _judged(lease, run, run.started_at or now, rule, heard, now)


def _judged(
    lease: Lease, run: Run, started_at: datetime, rule: Rule, heard: Mapping[str, Reading], now: datetime
) -> Judgement:
    return judge(
        signals.applicable(lease, run, heard),
        heard,
        started_at=started_at,
        now=now,
        window=_window(rule),
        grace=timedelta(seconds=rule.grace_seconds),
    )


def _judge_all(session: Session, *, now: datetime) -> None:
    """Judge every running lease. Rows are written only where something about the verdict has changed."""
    rows = [
        (lease, run, run.started_at)
        for lease, run in session.execute(
            sa.select(Lease, Run)
            .join(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
            .where(Lease.state == LeaseState.RUNNING)
            .order_by(Lease.id)
        ).all()
        if run.started_at is not None
    ]
    rules = policies.effective(session, [lease for lease, _, _ in rows])
    readings = signals.of(session, [lease.id for lease, _, _ in rows])
    changed: list[Mapping[str, object]] = []
    for lease, run, started_at in rows:
        judged = _judged(lease, run, started_at, rules[lease.id], readings.get(lease.id, {}), now)
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


def _window(rule: Rule) -> timedelta:
    """Of who is never taken back, the platform's usual one."""
    seconds = rule.window_seconds
    return timedelta(seconds=Rule.window_seconds if seconds == NEVER else seconds)


def _written(lease_id: UUID, judged: Judgement) -> Mapping[str, object]:
    values = (judged.verdict, judged.reason, judged.since)
    return {"lease": lease_id, **{f"new_{name}": value for name, value in zip(WRITTEN, values, strict=True)}}
