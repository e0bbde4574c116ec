"""Stopping a lease: keep its last words, stop and remove its container, free what it held."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from leasing.database import Sessions, now
from leasing.drivers.protocol import Container
from leasing.errors import DriverError, EngineDown, Stale
from leasing.model import Allocation, Run
from leasing.service import transitions
from leasing.settings.scheduler import SchedulerSettings
from leasing.states import Cause, LeaseState
from scheduler import claims
from scheduler.fleet import Fleet
from scheduler.jobs import Job

log = logging.getLogger(__name__)
ACTOR = "stopper"
LAST_LINES = 50


@dataclass(frozen=True)
class Stopper:
    """Carries out one stop a call; any number of calls run side by side."""

    sessions: Sessions
    fleet: Fleet
    settings: SchedulerSettings

    def stop(self, job: Job) -> None:
        """End the lease. Idempotent: whatever is gone already is done."""
        try:
            engine = self.fleet.connected(*job.node)
            found = engine.inspect(job.container)
            last_log = ""
            if found is not None:
                engine.stop(job.container, grace_seconds=self.settings.stop_grace_seconds)
                found = engine.inspect(job.container)
                last_log = engine.tail(job.container, LAST_LINES)
            engine.remove(job.container, network=job.network)
            self._ended(job, found, last_log)
        except Stale:
            log.info("stop given up, the lease changed hands lease=%s", job.claim.lease_id)
        except (EngineDown, DriverError) as error:
            self._again(job, error)

    def _ended(self, job: Job, found: Container | None, last_log: str) -> None:
        with self.sessions.begin() as session:
            moment = now(session)
            lease = claims.enter(session, job.claim)
            session.execute(
                sa.update(Allocation)
                .where(Allocation.run_id == job.run_id, Allocation.released_at.is_(None))
                .values(released_at=moment)
            )
            run = session.get_one(Run, job.run_id)
            run.stopped_at = run.stopped_at or moment
            run.released_at = moment
            if found is not None:
                lease.exit_code = found.exit_code if found.started_at else None
                lease.oom_killed = lease.oom_killed or found.oom_killed
            lease.last_log = last_log[-64_000:]
            transitions.move(
                session, lease, LeaseState.ENDED, Cause.STOPPER,
                now=moment, actor=ACTOR, message="its container is gone and what it held is free",
            )  # fmt: skip

    def _again(self, job: Job, error: DriverError) -> None:
        log.warning("stop will be tried again lease=%s error=%s", job.claim.lease_id, error)
        with self.sessions.begin() as session:
            try:
                lease = claims.enter(session, job.claim)
            except Stale:
                return
            lease.progress = f"will be tried again: {error.message}"
            claims.drop(lease, retry_at=now(session) + timedelta(seconds=self.settings.retry_seconds))
