"""One planner's pass: snapshot, plan and commit in one short transaction, and only one planner at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import Sessions
from leasing.service import calendar
from leasing.settings.scheduler import SchedulerSettings
from scheduler import fairness, forecasts, load
from scheduler.commit import Committed, commit
from scheduler.policy.planner import Policy, plan

log = logging.getLogger(__name__)
TURN = sa.text("SELECT now() WHERE pg_try_advisory_xact_lock(hashtextextended('leasing-planner', 0))")
"""The time, for the one whose turn it is."""


def run_once(
    sessions: Sessions, settings: SchedulerSettings, placed: Callable[[Session], object] = lambda _: None
) -> Committed | None:
    """What was committed; None when another process is planning just now.

    `placed` is called in the same transaction when there are placements: who has free workers may claim them at once.
    The lock lasts exactly as long as the transaction, so a plan is never committed by a planner that lost its turn.
    There is no network call in here, and nothing slower than the snapshot itself.
    """
    with sessions.begin() as session:
        moment = session.execute(TURN).scalar_one_or_none()
        if moment is None:
            return None
        waiting = load.queue(session, moment, at_least_seconds=settings.at_least_seconds)
        if not waiting:
            return Committed(0, 0, 0)
        calendar.lock_to_hold(session)
        fairness.account(session, moment, half_life_seconds=settings.fair_share_half_life_hours * 3600)
        snapshot = load.snapshot(session, waiting, moment, disk_reserve_bytes=settings.disk_reserve_bytes)
        policy = Policy(
            fair_share=settings.fair_share,
            backfill=settings.backfill,
            preemption=settings.preemption,
        )
        made = plan(snapshot, policy, explain=False)
        if made.blockers:  # only where somebody has to wait does it matter when others leave
            held = load.held(session, moment)
            yielding = load.yielding(session, held)
            made = plan(replace(snapshot, held=list(held.values()), yielding=yielding), policy)
        said = forecasts.corrected(session, made, moment)
        done = commit(session, said, moment)
        forecasts.told(session, said, made.expected, moment)
        if done.placed:
            placed(session)
    if done.placed or done.refused or done.conflicts:
        log.info("planned placed=%d refused=%d conflicts=%d", done.placed, done.refused, done.conflicts)
    return done
