"""Starting a placed lease: image, container, start; then its row says running, and its deadline begins.

One that goes on after a suspension gets a new container too, made from the files of the one before, for an engine gives
a container no other devices.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from datetime import timedelta

import sqlalchemy as sa

from leasing.database import Sessions, now
from leasing.drivers import spec
from leasing.drivers.protocol import Container, Image, Lifecycle
from leasing.drivers.spec import LeaseFacts
from leasing.errors import (
    ContainerGone,
    DriverError,
    EngineDown,
    FilesGone,
    HostError,
    ImageNotFound,
    LeasingError,
    Stale,
    VolumeGone,
)
from leasing.model import Lease, Run
from leasing.service import transitions
from leasing.service.transitions import Move
from leasing.settings.docker import DockerSettings
from leasing.settings.scheduler import SchedulerSettings
from leasing.states import Cause, EndReason, Goal, LeaseState, SuspendReason, WarmRole
from scheduler import attaching, claims, patience, ready, returning
from scheduler.claims import Claim
from scheduler.fleet import Fleet
from scheduler.jobs import Job
from scheduler.provision import Images

log = logging.getLogger(__name__)
ACTOR = "starter"
PROGRESS_SECONDS = 0.5

# The lease is locked first, as in `claims.enter`, and by nobody whose claim fell or passed on.
RUNS = sa.text("""
    WITH own AS (SELECT FROM lease WHERE id = :lease AND claim_token = :token FOR NO KEY UPDATE)
    UPDATE run
    SET container_id = :container, image_id = :image, epoch = :epoch, address = :address, started_at = now(),
        stopped_at = NULL, stop_first = false, missing_since = NULL
    FROM own WHERE run.id = :run
    RETURNING now()
""")
GOES_ON = sa.text("""
    UPDATE lease SET kept_container = NULL, kept_node_id = NULL, kept_image = :image WHERE id = :lease
""")


@dataclass(frozen=True)
class Starter:
    """Carries out one start a call; any number of calls run side by side."""

    sessions: Sessions
    fleet: Fleet
    images: Images
    settings: SchedulerSettings
    docker: DockerSettings

    def start(self, job: Job) -> None:
        """Bring the lease to running, or write in its row why not. Idempotent: what exists already is taken over."""
        try:
            self._start(job)
        except Stale:
            log.info("start given up, the lease changed hands lease=%s", job.claim.lease_id)
            self._undo(job)
        except EngineDown as error:
            self._again(job, error, counted=False)
        except (FilesGone, VolumeGone) as error:
            self._missing(job, error)
        except (ImageNotFound, HostError) as error:
            self._fail(job, error)
        except DriverError as error:
            if isinstance(error, ContainerGone) and job.ran and job.facts.sandbox is not None:
                # it had joined a sandbox that is gone: it can start in no other, but its files can go on in another
                self._fail(job, error)
            else:
                self._again(job, error, counted=True)
        except LeasingError as error:
            self._fail(job, error)

    def _start(self, job: Job) -> None:
        engine = job.engine(self.fleet)
        ready.make_way(engine, job)
        try:
            self._made(job, engine)
        except DriverError as error:
            if not ready.may_do_without(job, error):
                raise
            self._made(ready.forsake(self.sessions, engine, job, error), engine)

    def _made(self, job: Job, engine: Lifecycle) -> None:
        facts, image = self._from(job, engine)
        if job.workspace_id is not None:
            attaching.ready(self.sessions, engine, job.workspace_id, facts.installation)
        grace = self.settings.stop_grace_seconds
        if job.ready is not None and job.ready.role is WarmRole.WARM:
            if job.ready.image_id != image.id and not job.ran:
                raise DriverError("The image is another one by now.")
            # as below: of before the start, which for one that has waited was a while ago
            epoch = engine.epoch() if job.ran else job.ready.epoch
            handed = ready.hand_over(engine, job, facts, image, grace_seconds=grace)
            self._running(job, handed, image.id, epoch)
            return
        created = engine.create(spec.build(facts, image, self.docker))
        if job.stop_first:
            engine.stop(created.id, grace_seconds=grace)
        # The epoch is of before the start: should the engine restart now, the death is seen under a newer one.
        self._running(job, engine.start(created.id), image.id, created.epoch)
        if job.kept.container is not None:
            returning.forget(self.fleet, job, engine)

    def _from(self, job: Job, engine: Lifecycle) -> tuple[LeaseFacts, Image]:
        """What the container is made of: the image that was asked for, or the files of the container before it."""
        progress = _Progress(self.sessions, job.claim)
        if job.kept.container is not None:
            return returning.bring_back(self.fleet, job, engine, job.kept.container, progress)
        ran = engine.find_image(job.ran_image) if job.ran and job.ran_image is not None else None
        if ran is not None:
            # its container is there: that a newer environment cannot be built now is nothing to it
            return replace(job.facts, image=ran.id), ran
        if job.kept.image is not None:
            # it went on before and is started again, in the same container; should that be gone, then from there
            found = engine.find_image(job.kept.image)
            if found is None:
                raise FilesGone(f"The image {job.kept.image} with its files is gone.")
            return replace(job.facts, image=job.kept.image), found
        made = self.images.ensure(engine, job.facts.image, progress)
        return replace(job.facts, image=made.reference), made.image

    def _running(self, job: Job, container: Container, image_id: str, epoch: str | None) -> None:
        values = {
            "lease": job.claim.lease_id, "token": job.claim.token, "run": job.run_id, "container": container.id,
            "image": image_id, "epoch": epoch, "address": container.address,
        }  # fmt: skip
        with self.sessions.begin() as session:
            moment = session.execute(RUNS, values).scalar_one_or_none()
            if moment is None:
                raise claims.stale(job.claim)
            if job.kept.container is not None:
                session.execute(GOES_ON, {"lease": job.claim.lease_id, "image": job.image})
            transitions.move_many(
                session, [Move(job.claim.lease_id, "its container runs", {"container": container.id[:12]})],
                LeaseState.STARTING, LeaseState.RUNNING, Cause.STARTER, now=moment, actor=ACTOR,
            )  # fmt: skip

    def _missing(self, job: Job, error: FilesGone | VolumeGone) -> None:
        """What it is to go on with is not on its node; how long an engine has been up says whether it is gone."""
        files = isinstance(error, FilesGone)
        node_id = (files and job.kept.node_id) or job.node[0]
        try:
            engine = self.fleet.engine(node_id)
            patience.check(self.sessions, engine, node_id, self.settings.missing_seconds, error)
        except EngineDown as away:
            self._again(job, away, counted=False)
            return
        if files:
            self._fail(job, error)
        else:
            self._again(job, error, counted=True)

    def _again(self, job: Job, error: LeasingError, *, counted: bool) -> None:
        """Try the start again shortly, unless it has been tried often enough."""
        attempts = job.attempts + 1 if counted else job.attempts
        if attempts >= self.settings.start_attempts:
            self._fail(job, error)
            return
        log.warning(
            "start will be tried again lease=%s attempts=%d error=%s", job.claim.lease_id, attempts, error
        )
        with self.sessions.begin() as session:
            try:
                lease = claims.enter(session, job.claim)
            except Stale:
                return
            lease.attempts, lease.progress = attempts, f"will be tried again: {error.message}"
            claims.drop(lease, retry_at=now(session) + timedelta(seconds=self.settings.retry_seconds))

    def _fail(self, job: Job, error: LeasingError) -> None:
        """Let it end; one with files of an earlier start is suspended with them, unless they are what is gone."""
        log.warning("start failed lease=%s error=%s", job.claim.lease_id, error)
        with self.sessions.begin() as session:
            try:
                lease = claims.enter(session, job.claim)
            except Stale:
                return
            said = f"it could not be started: {error}"
            gone = job.kept.container is not None and isinstance(error, FilesGone)
            if gone or (job.kept.container is None and not job.ran):
                reason = EndReason.LOST if isinstance(error, FilesGone) else EndReason.FAILED
                transitions.move(
                    session, lease, LeaseState.STOPPING, Cause.STARTER,
                    now=now(session), actor=ACTOR, message=said, reason=reason, goal=Goal.ENDED,
                )  # fmt: skip
                return
            lease.suspend_reason = SuspendReason.FAILED
            transitions.move(
                session, lease, LeaseState.STOPPING, Cause.STARTER,
                now=now(session), actor=ACTOR, message=f"{said} Its files are kept.", goal=Goal.SUSPENDED,
            )  # fmt: skip

    def _undo(self, job: Job) -> None:
        """The lease was released meanwhile, and its stopper may have been too early to see what was made here.

        Only when the run is over: another worker may have taken the very same run on.
        """
        with self.sessions() as session:
            run = session.get(Run, job.run_id)
            over = run is None or run.released_at is not None
            lease = session.get(Lease, job.claim.lease_id)
            keeps = lease is not None and (
                lease.kept_container == job.container or (job.ran and lease.reason == EndReason.LOST)
            )
        if over:
            try:
                engine = self.fleet.connected(*job.node)
                if keeps:  # it was suspended or given up meanwhile: what was started here has its files
                    engine.stop(job.container, grace_seconds=self.settings.stop_grace_seconds)
                    job.clear_network(engine)
                else:
                    job.clear(engine)
            except DriverError as error:
                log.warning("left for the reconciler container=%s error=%s", job.container, error)


class _Progress:
    """Writes progress into the lease's row, at most twice a second; notices when the lease changed hands."""

    def __init__(self, sessions: Sessions, claim: Claim) -> None:
        self._sessions = sessions
        self._claim = claim
        self._written_at = 0.0
        self._line = ""

    def __call__(self, line: str) -> None:
        if line == self._line or time.monotonic() - self._written_at < PROGRESS_SECONDS:
            return
        self._line, self._written_at = line, time.monotonic()
        with self._sessions.begin() as session:
            claims.enter(session, self._claim).progress = line[:500]
