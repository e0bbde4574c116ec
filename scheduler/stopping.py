"""Stopping a lease: keep its last words, stop its container, free what it held.

One that is to end loses the container; of one that is to be suspended it stays, stopped, with its files.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from leasing.database import Sessions, now
from leasing.drivers.protocol import Container, Lifecycle, Ran
from leasing.errors import ContainerGone, DriverError, EngineDown, Stale
from leasing.service import events, suspension, transitions
from leasing.service.transitions import Move
from leasing.settings.scheduler import SchedulerSettings
from leasing.states import GOES_ON_BY_ITSELF, Cause, EndReason, Goal, LeaseState
from scheduler import claims, patience
from scheduler.fleet import Fleet
from scheduler.jobs import Job
from scheduler.policy.levels import FILES, driver_can, kept

log = logging.getLogger(__name__)
ACTOR = "stopper"
LAST_LINES = 50
MOST_OUTPUT = 4000
"""Characters of what an on-suspend command says that its event keeps."""
NOT_EXECUTED = 126
LOOK_SECONDS = 5.0

# Locks the lease, as `claims.enter` does, and nothing of whose claim fell or passed on.
LAST_WORDS = sa.text("""
    UPDATE lease SET exit_code = CASE WHEN :found THEN CAST(:exit_code AS int) ELSE exit_code END,
        oom_killed = oom_killed OR :oom_killed, last_log = :last_log
    WHERE id = :lease AND claim_token = :token
    RETURNING now(), reason IS NULL
""")
LOST = sa.text("UPDATE lease SET message = '' WHERE id = :lease")
# The run, then its allocations: whoever takes or frees anything locks a node before its devices. It stopped when the
# engine says so, but not before it was last seen to run, for an engine's clock may be behind: so `reconcile.runs` has
# it. From its being stopped on, its engine's comparison says nothing of it any more.
FREE = sa.text("""
    WITH ran AS (
        SELECT greatest(
            run.started_at,
            (SELECT at FROM run_sample WHERE run_id = run.id),
            (
                SELECT least(compared_at, (
                    SELECT max(at) FROM event WHERE lease_id = run.lease_id AND to_state = 'stopping'
                ))
                FROM counting WHERE node_id = run.node_id AND compared_at IS NOT NULL
            )
        ) AS until
        FROM run WHERE id = :run
    ), closed AS (
        UPDATE run SET released_at = now(), stopped_at = coalesce(
            stopped_at,
            CASE WHEN CAST(:stopped AS timestamptz) IS NOT NULL THEN least(greatest(:stopped, ran.until), now()) END,
            now()
        )
        FROM ran WHERE id = :run RETURNING id
    )
    UPDATE allocation SET released_at = now() FROM closed WHERE run_id = closed.id AND released_at IS NULL
""")


@dataclass(frozen=True)
class Stopper:
    """Carries out one stop a call; any number of calls run side by side."""

    sessions: Sessions
    fleet: Fleet
    settings: SchedulerSettings

    def stop(self, job: Job) -> None:
        """End or suspend the lease. Idempotent: whatever is gone already is done."""
        try:
            engine = job.engine(self.fleet)
            found = engine.inspect(job.container)
            last_log, keeps = "", FILES
            if found is not None:
                if job.suspends and job.kept.container is None and found.running:
                    self._save(job, engine)
                    keeps = _level(job, engine)
                engine.stop(job.container, grace_seconds=self.settings.stop_grace_seconds)
                found = engine.inspect(job.container)
                last_log = engine.tail(job.container, LAST_LINES)
            if job.suspends and self._suspended(job, engine, found, last_log, keeps):
                return
            job.clear(engine)
            self._ended(job, found, last_log)
        except Stale:
            log.info("stop given up, the lease changed hands lease=%s", job.claim.lease_id)
        except (EngineDown, DriverError) as error:
            self._again(job, error)

    def _save(self, job: Job, engine: Lifecycle) -> None:
        """Let the lease's own command save what it wants, for a bounded time; whatever comes of it, the stop goes on.

        At least once: a worker that is killed after it and before the stop has it run again by the next.
        """
        if job.on_suspend is None:
            return
        most = self.settings.hook_seconds
        with self.sessions.begin() as session:
            claims.enter(session, job.claim).progress = f"its on-suspend command runs, for {most} s at most"
        began = time.monotonic()
        try:
            ran = engine.run(job.container, job.on_suspend, seconds=most)
        except EngineDown:
            raise
        except DriverError as error:
            ran = Ran(exit_code=NOT_EXECUTED, output=error.message)
        said = _outcome(ran, time.monotonic() - began, most)
        log.info("on-suspend lease=%s exit_code=%s", job.claim.lease_id, ran.exit_code)
        with self.sessions.begin() as session:
            events.record(
                session, "lease.saved" if ran.exit_code == 0 else "lease.unsaved", said,
                actor=ACTOR, lease_id=job.claim.lease_id,
                data={"exit_code": ran.exit_code, "output": ran.output[-MOST_OUTPUT:]},
            )  # fmt: skip

    def _suspended(
        self, job: Job, engine: Lifecycle, found: Container | None, last_log: str, keeps: str
    ) -> bool:
        """Whether the lease is suspended now. Not if it was released meanwhile, or if there are no files to keep."""
        if job.kept.container is not None:
            # it could not go on: what it was to go on from is there still, and what was made for it goes
            job.clear(engine)
        elif found is None:
            gone = ContainerGone("Its container is missing, and its files with it.")
            patience.check(self.sessions, engine, job.node[0], self.settings.missing_seconds, gone)
            return False
        else:
            # networks are few: a stopped container needs none, and the one that goes on from it gets a new one
            job.clear_network(engine)
        with self.sessions.begin() as session:
            moment = now(session)
            lease = claims.enter(session, job.claim)
            if lease.goal != Goal.SUSPENDED:
                return False
            session.execute(FREE, {"run": job.run_id, "stopped": found.finished_at if found else None})
            if job.kept.container is None:
                lease.kept_node_id, lease.kept_container = job.node[0], job.container
                lease.last_log, lease.keeps = last_log[-64_000:], keeps
            suspension.keep_time(lease, moment)
            suspension.rest(session, lease, Cause.STOPPER, now=moment, actor=ACTOR, message=lease.message)
            if lease.suspend_reason in GOES_ON_BY_ITSELF:
                suspension.queue_again(
                    session, lease, Cause.STOPPER,
                    now=moment, actor=ACTOR, message="it waits to go on, where it stood in the queue",
                )  # fmt: skip
            return True

    def _ended(self, job: Job, found: Container | None, last_log: str) -> None:
        values = {
            "lease": job.claim.lease_id, "token": job.claim.token, "found": found is not None,
            "exit_code": found.exit_code if found is not None and found.started_at else None,
            "oom_killed": found is not None and found.oom_killed, "last_log": last_log[-64_000:],
        }  # fmt: skip
        with self.sessions.begin() as session:
            own = session.execute(LAST_WORDS, values).one_or_none()
            if own is None:
                raise claims.stale(job.claim)
            moment, lost = own
            session.execute(FREE, {"run": job.run_id, "stopped": found.finished_at if found else None})
            message = "its container is gone and what it held is free"
            if lost:
                session.execute(LOST, {"lease": job.claim.lease_id})
                message = "its container was gone before it could be suspended, and its files with it"
            transitions.move_many(
                session, [Move(job.claim.lease_id, message)], LeaseState.STOPPING, LeaseState.ENDED, Cause.STOPPER,
                now=moment, actor=ACTOR, reason=EndReason.LOST if lost else None,
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


def _level(job: Job, engine: Lifecycle) -> str:
    """What of it will be kept."""
    devices, version = bool(job.facts.device_uuids), job.driver_version
    tool = devices and driver_can(version) and _has(engine, job.container, "cuda-checkpoint")
    return kept(devices=devices, driver_version=version, tool=tool)


def _has(engine: Lifecycle, container: str, tool: str) -> bool:
    try:
        return engine.run(container, [tool, "--help"], seconds=LOOK_SECONDS).exit_code not in (126, 127, None)
    except EngineDown:
        raise
    except DriverError:
        return False


def _outcome(ran: Ran, seconds: float, most: int) -> str:
    """What came of an on-suspend command, with the last line that it said."""
    if ran.exit_code is None:
        said = f"its on-suspend command was cut off after {most} s"
    elif ran.exit_code == 0:
        said = f"its on-suspend command succeeded after {seconds:.1f} s"
    else:
        said = f"its on-suspend command failed with exit code {ran.exit_code}"
    last = next((line for line in reversed(ran.output.splitlines()) if line.strip()), "")
    return f"{said}: {last.strip()[:200]}" if last else said
