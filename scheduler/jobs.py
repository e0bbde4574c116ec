"""What a worker needs to know of a lease to start or stop it, read in the transaction that claims it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import names
from leasing.drivers.spec import LeaseFacts
from leasing.model import Allocation, Device, Lease, Node, Run, User
from leasing.states import Goal
from scheduler import claims
from scheduler.claims import Claim


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
    suspends: bool
    """Of one that is to be stopped: its files are to be kept."""
    kept: Kept

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


def of(session: Session, leases: Sequence[Lease], installation: str) -> dict[UUID, Job]:
    """The job for each claimed lease that has an open run."""
    if not leases:
        return {}
    by_id = {lease.id: lease for lease in leases}
    rows = session.execute(
        sa.select(Run, User.name, Node.driver, Node.address)
        .join(Lease, Lease.id == Run.lease_id)
        .join(User, User.id == Lease.owner_id)
        .join(Node, Node.id == Run.node_id)
        .where(Run.lease_id.in_(by_id), Run.released_at.is_(None))
    ).all()
    devices: dict[UUID, list[str]] = defaultdict(list)
    for run_id, uuid in session.execute(
        sa.select(Allocation.run_id, Device.uuid)
        .join(Device)
        .where(Allocation.run_id.in_([run.id for run, *_ in rows]), Allocation.released_at.is_(None))
        .order_by(Device.index)
    ):
        devices[run_id].append(uuid)
    return {
        run.lease_id: Job(
            claim=claims.of(by_id[run.lease_id]),
            run_id=run.id,
            node=(run.node_id, driver, address),
            facts=_facts(by_id[run.lease_id], run, owner, devices[run.id], installation),
            attempts=by_id[run.lease_id].attempts,
            suspends=by_id[run.lease_id].goal == Goal.SUSPENDED,
            kept=_kept(by_id[run.lease_id]),
        )
        for run, owner, driver, address in rows
    }


def _kept(lease: Lease) -> Kept:
    return Kept(lease.kept_node_id, lease.kept_container, lease.kept_image)


def _facts(lease: Lease, run: Run, owner: str, devices: list[str], installation: str) -> LeaseFacts:
    return LeaseFacts(
        lease_id=lease.id,
        name=lease.name,
        owner=owner,
        installation=installation,
        generation=run.generation,
        image=lease.image,
        command=lease.command,
        env=lease.env,
        cpus=run.cpus_millis / 1000,
        memory_bytes=run.memory_bytes,
        shm_bytes=lease.shm_bytes,
        device_uuids=tuple(devices),
        workspace=names.volume(installation, lease.workspace_id) if lease.workspace_id else None,
    )
