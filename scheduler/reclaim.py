"""Taking back: what is over time, and what is idle by every signal it has."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import Sessions, now
from leasing.model import Lease
from leasing.reclaim import NEVER, Rule
from leasing.service import policies, suspension, transitions
from leasing.settings.scheduler import SchedulerSettings
from leasing.states import RESTING, STOPPABLE, Cause, EndReason, Goal, LeaseState, SuspendReason
from leasing.units import format_duration

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
            over = _over_time(session, moment)
            rules = policies.effective(session, over)
            for lease in over:
                _expire(session, lease, moment, rules[lease.id])
        with self._sessions.begin() as session:
            self._take_idle(session, now(session))

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

    def _take_idle(self, session: Session, moment: datetime) -> None:
        """Those that have been quiet for as long as their rule allows."""
        quiet = list(
            session.execute(
                sa.select(Lease)
                .where(Lease.state == LeaseState.RUNNING, Lease.idle_since.is_not(None))
                .order_by(Lease.id)
                .with_for_update(skip_locked=True, key_share=True)
            ).scalars()
        )
        rules = policies.effective(session, quiet)
        for lease in quiet:
            window = rules[lease.id].window_seconds
            if (
                window == NEVER
                or lease.idle_since is None
                or moment - lease.idle_since < timedelta(seconds=window)
            ):
                continue
            message = f"reclaimed as idle: {lease.idle_reason} (allowed: {format_duration(window)})"
            transitions.move(
                session, lease, LeaseState.STOPPING, Cause.RECLAIMER, now=moment, actor=ACTOR, message=message,
                reason=EndReason.IDLE, goal=Goal.ENDED,
            )  # fmt: skip


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


def _expire(session: Session, lease: Lease, moment: datetime, rule: Rule) -> None:
    message = "its time was over"
    if lease.state == LeaseState.QUEUED:
        message += " before there was room" if lease.kept_container is None else " before it could go on"
    elif lease.state == LeaseState.SUSPENDED:
        message += " while it rested"
    suspension.take_back(
        session, lease, SuspendReason.EXPIRED, rule=rule, now=moment, actor=ACTOR, message=message
    )
