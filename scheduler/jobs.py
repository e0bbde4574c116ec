"""What a worker needs to know of a lease to start or stop it, read in the transaction that claims it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from images import tools
from leasing import names
from leasing.drivers.protocol import Lifecycle
from leasing.drivers.spec import LeaseFacts
from leasing.errors import EngineDown
from leasing.states import Goal, LeaseState, WarmRole
from scheduler.away import AWAY, SAID
from scheduler.claims import Claim
from scheduler.fleet import Fleet

JOBS = sa.text(f"""
    SELECT lease.id AS lease_id, lease.state, lease.goal, lease.name, lease.image, lease.command, lease.env,
        lease.on_suspend, lease.shm_bytes, lease.workspace_id, lease.workspace_read_only, lease.attempts,
        lease.kept_node_id, lease.kept_container, lease.kept_image,
        users.name AS owner, run.id AS run_id, run.generation, run.stop_first, run.cpus_millis, run.memory_bytes,
        node.id AS node_id, node.driver, node.address, {AWAY} AS away, run.started_at IS NOT NULL AS ran,
        run.image_id AS ran_image,
        node.sampler ->> 'nvml_driver_version' AS driver_version,
        warm.id AS warm_id, warm.role AS warm_role, warm.container_id AS warm_container, warm.image_id AS warm_image,
        warm.epoch AS warm_epoch,
        ARRAY(
            SELECT device.uuid FROM allocation JOIN device ON device.id = allocation.device_id
            WHERE allocation.run_id = run.id AND allocation.released_at IS NULL ORDER BY device.index
        ) AS devices,
        ARRAY(
            SELECT other.id FROM warm AS other JOIN allocation ON allocation.device_id = other.device_id
            WHERE allocation.run_id = run.id AND other.state = 'spent'
        ) AS yielded
    FROM lease
    JOIN run ON run.lease_id = lease.id AND run.released_at IS NULL
    JOIN users ON users.id = lease.owner_id
    JOIN node ON node.id = run.node_id
    LEFT JOIN warm ON warm.id = run.warm_id
    WHERE lease.id = ANY (CAST(:ids AS uuid[]))
""")  # noqa: S608 - of a condition that names no value


@dataclass(frozen=True)
class Kept:
    """What is there of an earlier run, to go on with."""

    node_id: UUID | None
    container: str | None
    """The stopped container; None once another goes on in its stead."""
    image: str | None
    """The image that the last container to go on was made from."""


@dataclass(frozen=True)
class Ready:
    """What was ready on the node, and is this run's since it was placed."""

    id: UUID
    role: WarmRole
    container: str
    image_id: str | None
    epoch: str | None
    """The engine's epoch in which it was made."""


@dataclass(frozen=True)
class Job:
    """A claimed lease with its open run, as it stood when it was claimed."""

    claim: Claim
    run_id: UUID
    node: tuple[UUID, str, str]
    """Id, driver and address."""
    away: bool
    """Whether that node is known not to answer."""
    facts: LeaseFacts
    attempts: int
    stops: bool
    """Whether it is to be stopped, and not started."""
    suspends: bool
    """Of one that is to be stopped: its files are to be kept."""
    kept: Kept
    driver_version: str | None = None
    """Of the NVIDIA driver on its node, as last reported."""
    on_suspend: Sequence[str] | None = None
    """What to run inside before it is stopped to be suspended."""
    workspace_id: UUID | None = None
    stop_first: bool = False
    """Of one that is to be started: its container may run, and is to be started anew."""
    ran: bool = False
    """Of one that is to be started: it ran before in this container, which has files of its own."""
    ran_image: str | None = None
    """Of one that ran before: the id of what its container was made of."""
    ready: Ready | None = None
    yielded: Sequence[str] = ()
    """Names of waiting containers that were bound to its devices: they are to be gone when it starts."""

    @property
    def container(self) -> str:
        return names.container(self.facts.installation, self.claim.lease_id, self.facts.generation)

    @property
    def network(self) -> str:
        if self.ready is not None:
            return names.warm(self.facts.installation, self.ready.id)
        return names.network(self.facts.installation, self.claim.lease_id)

    @property
    def image(self) -> str:
        """What the files of the run before are called, for this one to be made from."""
        return names.kept_image(self.facts.installation, self.claim.lease_id, self.facts.generation)

    def engine(self, fleet: Fleet) -> Lifecycle:
        """Where its container is or will be. Raises `EngineDown` at once where that would only be waited for."""
        if self.away:
            raise EngineDown(f"{SAID[0].upper()}{SAID[1:]}.")
        return fleet.connected(*self.node)

    def clear(self, engine: Lifecycle) -> None:
        """Nothing that this run has on its engine stays, a workspace excepted. Idempotent."""
        engine.remove(self.container, network=None)
        self.clear_network(engine)

    def clear_network(self, engine: Lifecycle) -> None:
        """Its network goes, with the sandbox that held it."""
        if self.ready is None:
            engine.remove_network(self.network)
        else:
            engine.remove(self.network, network=self.network)


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
        away=row.away,
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
            read_only=row.workspace_read_only,
            sandbox=_sandbox(row, installation),
            tools=tools.reference(),
        ),
        attempts=row.attempts,
        stops=row.state == LeaseState.STOPPING,
        suspends=row.goal == Goal.SUSPENDED,
        kept=Kept(row.kept_node_id, row.kept_container, row.kept_image),
        on_suspend=row.on_suspend,
        driver_version=row.driver_version,
        workspace_id=row.workspace_id,
        stop_first=row.stop_first,
        ran=row.ran,
        ran_image=row.ran_image,
        ready=_ready(row),
        yielded=[names.warm(installation, one) for one in row.yielded],
    )


def _ready(row: sa.Row[Any]) -> Ready | None:
    if row.warm_id is None:
        return None
    return Ready(row.warm_id, WarmRole(row.warm_role), row.warm_container, row.warm_image, row.warm_epoch)


def _sandbox(row: sa.Row[Any], installation: str) -> str | None:
    return names.warm(installation, row.warm_id) if row.warm_role == WarmRole.SANDBOX else None
