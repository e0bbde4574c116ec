"""What a worker needs to know of a lease to start or stop it, read in the transaction that claims it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import names
from leasing.drivers.spec import LeaseFacts
from leasing.states import Goal, LeaseState
from scheduler.claims import Claim

JOBS = sa.text("""
    SELECT lease.id AS lease_id, lease.state, lease.goal, lease.name, lease.image, lease.command, lease.env, lease.on_suspend,
        lease.shm_bytes, lease.workspace_id, lease.attempts, lease.kept_node_id, lease.kept_container, lease.kept_image,
        users.name AS owner, run.id AS run_id, run.generation, run.stop_first, run.cpus_millis, run.memory_bytes,
        node.id AS node_id, node.driver, node.address,
        ARRAY(
            SELECT device.uuid FROM allocation JOIN device ON device.id = allocation.device_id
            WHERE allocation.run_id = run.id AND allocation.released_at IS NULL ORDER BY device.index
        ) AS devices
    FROM lease
    JOIN run ON run.lease_id = lease.id AND run.released_at IS NULL
    JOIN users ON users.id = lease.owner_id
    JOIN node ON node.id = run.node_id
    WHERE lease.id = ANY (CAST(:ids AS uuid[]))
""")


@dataclass(frozen=True)
class Kept:
    """What is there of an earlier run, to go on with."""

    node_id: UUID | None
    container: str | None
    """The stopped container; None once another goes on in its stead."""
    image: str | None
    """The image that the last container to go on was made from."""


@dataclass(frozen=True)
class Job:
    """A claimed lease with its open run, as it stood when it was claimed."""

    claim: Claim
    run_id: UUID
    node: tuple[UUID, str, str]
    """Id, driver and address."""
    facts: LeaseFacts
    attempts: int
    stops: bool
    """Whether it is to be stopped, and not started."""
    suspends: bool
    """Of one that is to be stopped: its files are to be kept."""
    kept: Kept
    on_suspend: Sequence[str] | None = None
    """What to run inside before it is stopped to be suspended."""
    stop_first: bool = False
    """Of one that is to be started: its container may run, and is to be started anew."""

    @property
    def container(self) -> str:
        return names.container(self.facts.installation, self.claim.lease_id, self.facts.generation)

    @property
    def network(self) -> str:
        return names.network(self.facts.installation, self.claim.lease_id)

    @property
    def image(self) -> str:
        """What the files of the run before are called, for this one to be made from."""
        return names.kept_image(self.facts.installation, self.claim.lease_id, self.facts.generation)


def of(session: Session, taken: Sequence[Claim], installation: str) -> list[Job]:
    """The job for each claimed lease that has an open run, in the order of the claims."""
    if not taken:
        return []
    rows = session.execute(JOBS, {"ids": [claim.lease_id for claim in taken]})
    by_id = {row.lease_id: row for row in rows}
    return [_job(claim, by_id[claim.lease_id], installation) for claim in taken if claim.lease_id in by_id]


def _job(claim: Claim, row: sa.Row[Any], installation: str) -> Job:
    return Job(
        claim=claim,
        run_id=row.run_id,
        node=(row.node_id, row.driver, row.address),
        facts=LeaseFacts(
            lease_id=claim.lease_id,
            name=row.name,
            owner=row.owner,
            installation=installation,
            generation=row.generation,
            image=row.image,
            command=row.command,
            env=row.env,
            cpus=row.cpus_millis / 1000,
            memory_bytes=row.memory_bytes,
            shm_bytes=row.shm_bytes,
            device_uuids=tuple(row.devices),
            workspace=names.volume(installation, row.workspace_id) if row.workspace_id else None,
        ),
        attempts=row.attempts,
        stops=row.state == LeaseState.STOPPING,
        suspends=row.goal == Goal.SUSPENDED,
        kept=Kept(row.kept_node_id, row.kept_container, row.kept_image),
        on_suspend=row.on_suspend,
        stop_first=row.stop_first,
    )
