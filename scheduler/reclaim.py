"""Taking back: what is over time, and what is idle by every signal it has."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import Sessions, now
from leasing.model import Lease, Run, SignalKind
from leasing.service import signals, transitions
from leasing.settings.scheduler import SchedulerSettings
from leasing.states import RESTING, STOPPABLE, Cause, EndReason, Goal, LeaseState, Verdict
from leasing.units import format_duration
from scheduler.policy.idleness import Judgement, SignalState, judge

log = logging.getLogger(__name__)
ACTOR = "reclaimer"
MAX_JUMP = timedelta(seconds=60)
FREEZE = timedelta(minutes=5)


class Reclaimer:
    """Each pass decides from rows read under their own locks, never from a list made earlier."""

    def __init__(self, sessions: Sessions, settings: SchedulerSettings) -> None:
        self._sessions = sessions
        self._settings = settings
        self._clock: tuple[datetime, float] | None = None
        self._frozen_until: datetime | None = None

    def run_once(self) -> None:
        with self._sessions.begin() as session:
            moment = now(session)
            if self._clock_jumped(moment):
                return
            for lease in _over_time(session, moment):
                _expire(session, lease, moment)
        with self._sessions.begin() as session:
            self._judge_all(session, now(session))

    def _clock_jumped(self, moment: datetime) -> bool:
        """Whether deadlines are not to be believed just now: the clock moved against this machine's own steady one."""
        steady = time.monotonic()
        if self._clock is not None:
            drift = (moment - self._clock[0]).total_seconds() - (steady - self._clock[1])
            if abs(drift) > MAX_JUMP.total_seconds():
                log.warning("the clock jumped by %.0fs; nothing is reclaimed for %s", drift, FREEZE)
                self._frozen_until = moment + FREEZE
        self._clock = (moment, steady)
        return self._frozen_until is not None and moment < self._frozen_until

    def _judge_all(self, session: Session, moment: datetime) -> None:
        rows = session.execute(
            sa.select(Lease, Run.started_at)
            .join(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
            .where(Lease.state == LeaseState.RUNNING, Run.started_at.is_not(None))
            .order_by(Lease.id)
            .with_for_update(of=Lease, skip_locked=True, key_share=True)
        ).all()
        readings = signals.of(session, [lease.id for lease, _ in rows])
        for lease, started_at in rows:
            if started_at is not None:
                self._apply(
                    session,
                    lease,
                    self._judged(lease, readings.get(lease.id, {}), started_at, moment),
                    moment,
                )

    def _judged(
        self, lease: Lease, readings: dict[str, signals.Reading], started_at: datetime, moment: datetime
    ) -> Judgement:
        states = {
            kind: SignalState(reading.known_since, reading.seen_at, reading.active_at)
            for kind, reading in readings.items()
        }
        window = timedelta(seconds=lease.idle_timeout_seconds or self._settings.idle_window_seconds)
        return judge(applicable(lease), states, started_at=started_at, now=moment, window=window)

    def _apply(self, session: Session, lease: Lease, judged: Judgement, moment: datetime) -> None:
        if (lease.idle_verdict, lease.idle_reason, lease.idle_since) != (
            judged.verdict,
            judged.reason,
            judged.since,
        ):
            lease.idle_verdict, lease.idle_reason, lease.idle_since = (
                judged.verdict,
                judged.reason,
                judged.since,
            )
        if judged.verdict is not Verdict.IDLE or not lease.idle_timeout_seconds:
            return
        allowed = format_duration(lease.idle_timeout_seconds)
        transitions.move(
            session, lease, LeaseState.STOPPING, Cause.RECLAIMER,
            now=moment, actor=ACTOR, message=f"reclaimed as idle: {judged.reason} (allowed: {allowed})",
            reason=EndReason.IDLE, goal=Goal.ENDED,
        )  # fmt: skip


def applicable(lease: Lease) -> frozenset[str]:
    """The signals that say something of this lease; fixed by its request."""
    kinds = {SignalKind.CPU, SignalKind.NETWORK}
    if lease.gpu_count:
        kinds.add(SignalKind.GPU)
    if lease.port is not None:
        kinds.add(SignalKind.ENDPOINT)
    return frozenset(kinds)


def _over_time(session: Session, moment: datetime) -> list[Lease]:
    """Live leases whose time is over, locked; one that is being renewed just now is met again in the next pass."""
    due: list[UUID] = list(
        session.execute(
            sa.select(Lease.id).where(
                Lease.state.in_([*STOPPABLE, *RESTING]),
                sa.func.coalesce(Lease.ends_at, Lease.until) <= moment,
            )
        ).scalars()
    )
    return list(
        session.execute(
            sa.select(Lease)
            .where(
                Lease.id.in_(due),
                Lease.state.in_([*STOPPABLE, *RESTING]),
                sa.func.coalesce(Lease.ends_at, Lease.until) <= moment,
            )
            .order_by(Lease.id)
            .with_for_update(skip_locked=True, key_share=True)
        ).scalars()
    )


def _expire(session: Session, lease: Lease, moment: datetime) -> None:
    resting = lease.state in RESTING
    message = "its time was over"
    if resting:
        message += " before there was room" if lease.suspended_at is None else " before it could go on"
    transitions.move(
        session, lease, LeaseState.ENDED if resting else LeaseState.STOPPING, Cause.RECLAIMER,
        now=moment, actor=ACTOR, reason=EndReason.EXPIRED, message=message,
    )  # fmt: skip
