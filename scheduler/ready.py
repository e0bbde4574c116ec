"""A start that finds something ready: a container that waits, or a sandbox; and what follows if it is not there after
all."""

from __future__ import annotations

import logging
from dataclasses import replace

import sqlalchemy as sa

from leasing.database import Sessions
from leasing.drivers import spec
from leasing.drivers.protocol import Container, HandOver, Image, Lifecycle
from leasing.drivers.spec import LeaseFacts
from leasing.errors import ContainerGone, DriverError, EngineDown, FilesGone, ImageNotFound, VolumeGone
from leasing.states import WarmRole
from scheduler import claims
from scheduler.jobs import Job

log = logging.getLogger(__name__)

# Fenced by the lease's claim, and the lease locked first, as wherever a run is written.
FORSAKE = sa.text("""
    WITH own AS (SELECT FROM lease WHERE id = :lease AND claim_token = :token FOR NO KEY UPDATE),
    freed AS (UPDATE run SET warm_id = NULL, ready = NULL FROM own WHERE run.id = :run RETURNING run.id)
    UPDATE warm SET state = 'spent' FROM freed WHERE warm.id = :warm RETURNING warm.id
""")


def make_way(engine: Lifecycle, job: Job) -> None:
    """Containers that waited on this run's devices go before it starts."""
    for name in job.yielded:
        engine.remove(name, network=name)


def hand_over(
    engine: Lifecycle, job: Job, facts: LeaseFacts, image: Image, *, grace_seconds: int
) -> Container:
    """The container that waited, now running the lease's command. Raises `ContainerGone`, `DriverError`."""
    assert job.ready is not None, "only who was given one comes here"
    if job.stop_first:
        engine.stop(job.ready.container, grace_seconds=grace_seconds)
    becomes = HandOver(
        name=job.container,
        hostname=facts.name,
        command=spec.command(facts, image),
        environment=spec.identity(facts.lease_id, facts.name),
    )
    return engine.hand_over(job.ready.container, becomes)


def may_do_without(job: Job, error: DriverError) -> bool:
    """Whether a start that failed may lie with what was ready for it, and nothing is lost by starting without."""
    if job.ready is None or isinstance(error, EngineDown | ImageNotFound | FilesGone | VolumeGone):
        return False
    return not job.ran or (job.ready.role is WarmRole.WARM and isinstance(error, ContainerGone))


def forsake(sessions: Sessions, engine: Lifecycle, job: Job, error: DriverError) -> Job:
    """The same start without what was ready, which goes unused, and with it what was made in it.

    Raises `Stale` if the lease is no longer this worker's.
    """
    assert job.ready is not None, "only who was given one comes here"
    log.warning("start goes on without what was ready lease=%s error=%s", job.claim.lease_id, error)
    values = {
        "lease": job.claim.lease_id, "token": job.claim.token, "run": job.run_id, "warm": job.ready.id,
    }  # fmt: skip
    with sessions.begin() as session:
        claims.enter(session, job.claim)
    # Before the row says so: who takes this up again if we die here is to find nothing that it could take for its own.
    engine.remove(job.ready.container, network=None)
    job.clear(engine)
    with sessions.begin() as session:
        if session.execute(FORSAKE, values).scalar_one_or_none() is None:
            raise claims.stale(job.claim)
    return replace(job, ready=None, facts=replace(job.facts, sandbox=None))
