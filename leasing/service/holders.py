"""Who holds what on a node just now."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.gpus import WHOLE
from leasing.model import Allocation, Lease, Run
from leasing.states import LeaseState


@dataclass(frozen=True)
class Grant:
    """A part of a device, by its allocation."""

    allocation_id: UUID
    share: int
    memory_bytes: int

    @property
    def whole(self) -> bool:
        return self.share == WHOLE


@dataclass(frozen=True)
class Holder:
    """An open run: whose container it is, and what it holds of which device. `leaving`: it is being stopped."""

    run_id: UUID
    lease_id: UUID
    container_id: str | None
    leaving: bool
    devices: dict[UUID, Grant] = field(default_factory=dict)


def of(session: Session, node_id: UUID) -> list[Holder]:
    """Every open run of a node."""
    rows = session.execute(
        sa.select(Run.id, Run.lease_id, Run.container_id, Lease.state, Allocation)
        .join(Lease, Lease.id == Run.lease_id)
        .outerjoin(Allocation, sa.and_(Allocation.run_id == Run.id, Allocation.released_at.is_(None)))
        .where(Run.node_id == node_id, Run.released_at.is_(None))
    )
    found: dict[UUID, Holder] = {}
    for run_id, lease_id, container_id, state, held in rows:
        holder = found.setdefault(
            run_id, Holder(run_id, lease_id, container_id, leaving=state == LeaseState.STOPPING)
        )
        if held is not None:
            holder.devices[held.device_id] = Grant(held.id, held.share, held.memory_bytes)
    return list(found.values())
