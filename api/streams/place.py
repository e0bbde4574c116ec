"""Where a lease's container is, for streaming from its engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import names
from leasing.drivers.protocol import Streams
from leasing.drivers.spec import identity
from leasing.errors import Conflict
from leasing.model import Installation, Lease, Node, Run

Connect = Callable[[str, str], Streams]
"""Driver name and address → what streams from that engine."""


@dataclass(frozen=True)
class Place:
    """A container by name, and its engine's driver and address."""

    container: str
    driver: str
    address: str
    environment: Mapping[str, str]
    """What says whose it is, for commands: a container that waited for its lease has it not from its creation."""


def of(session: Session, lease: Lease) -> Place:
    """Raises `Conflict` when the lease has no container now."""
    row = session.execute(
        sa.select(Run.generation, Node.driver, Node.address, Installation.id)
        .join(Node, Node.id == Run.node_id)
        .join(Installation, sa.true())
        .where(Run.lease_id == lease.id, Run.released_at.is_(None), Run.container_id.is_not(None))
    ).one_or_none()
    if row is None:
        raise Conflict(
            f"Lease {lease.name!r} is {lease.state} and has no container now.",
            hint=f"See: lease why {lease.name}",
        )
    generation, driver, address, installation = row
    return Place(
        names.container(installation, lease.id, generation), driver, address, identity(lease.id, lease.name)
    )
