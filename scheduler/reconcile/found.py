"""Stage: what a lease that ended as lost had on a node, and is there again, is stopped, told of, and kept for a while.

A disk is mounted too late, or a machine that was given up answers again: the files are whole, and their owner has only
been told that they are gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import names
from leasing.database import Sessions
from leasing.drivers.protocol import Lifecycle
from leasing.drivers.spec import HOME
from leasing.errors import DriverError, EngineDown
from leasing.model import Event, Lease, Node, Run
from leasing.service import events
from leasing.states import EndReason, LeaseState

log = logging.getLogger(__name__)
ACTOR = "reconciler"
KIND = "lease.found"


@dataclass(frozen=True)
class Lost:
    """Whose a container was, and until when it is kept if it is there."""

    lease_id: UUID
    node: str
    until: datetime


def lately(keep_days: float) -> sa.ColumnElement[bool]:
    """Of a lease: it ended as lost, and not longer ago than what is found of it is kept."""
    return sa.and_(
        Lease.state == LeaseState.ENDED,
        Lease.reason == EndReason.LOST,
        Lease.ended_at > sa.func.now() - timedelta(days=keep_days),
    )


def containers(session: Session, node_id: UUID, installation: str, keep_days: float) -> dict[str, Lost]:
    """By name, those that are no orphans on the node though their leases have ended."""
    until = sa.type_coerce(Lease.ended_at + timedelta(days=keep_days), sa.DateTime(timezone=True))
    rows = session.execute(
        sa.select(Lease.id, Run.generation, Node.name, until)
        .join(Run, Run.lease_id == Lease.id)
        .join(Node, Node.id == Run.node_id)
        .where(lately(keep_days), Run.node_id == node_id)
    )
    return {
        names.container(installation, lease_id, generation): Lost(lease_id, node, end)
        for lease_id, generation, node, end in rows
    }


def run_once(
    sessions: Sessions,
    engine: Lifecycle,
    node_id: UUID,
    installation: str,
    *,
    keep_days: float,
    grace_seconds: int,
) -> list[str]:
    """The names of what was found on one node and is told of now. Raises `EngineDown`.

    One that runs is stopped, however often it is started: its devices may be somebody else's by now.
    """
    with sessions() as session:
        lost = containers(session, node_id, installation, keep_days)
    if not lost:
        return []
    there = [one for one in engine.containers(installation) if one.name in lost]
    stopped = {
        one.name: lost[one.name] for one in there if not one.running or _stop(engine, one.name, grace_seconds)
    }
    return _tell(sessions, node_id, stopped)


def _stop(engine: Lifecycle, name: str, grace_seconds: int) -> bool:
    try:
        engine.stop(name, grace_seconds=grace_seconds)
    except EngineDown:
        raise
    except DriverError as error:
        log.warning("found container resists name=%s error=%s", name, error)
        return False
    return True


def _tell(sessions: Sessions, node_id: UUID, found: dict[str, Lost]) -> list[str]:
    """Once of each, whoever finds it; those that were told of now."""
    with sessions() as session:
        fresh = sorted(found.keys() - _told(session, found.values()))
    if not fresh:
        return []
    with sessions.begin() as session:
        ids = {found[name].lease_id for name in fresh}
        # who else has found the same waits here, and then reads that it is told
        session.execute(
            sa.select(Lease.id).where(Lease.id.in_(ids)).order_by(Lease.id).with_for_update(key_share=True)
        )
        told = _told(session, found.values())
        fresh = [name for name in fresh if name not in told]
        for name in fresh:
            one = found[name]
            message = (
                f"its container {name} is on node {one.node} again: it is stopped, and kept until "
                f"{one.until:%Y-%m-%d %H:%M %Z}; its files come out there by: docker cp {name}:{HOME} ."
            )
            log.warning("lost container found lease=%s name=%s", one.lease_id, name)
            events.record(
                session, KIND, message,
                actor=ACTOR, lease_id=one.lease_id, node_id=node_id, data={"container": name},
            )  # fmt: skip
    return fresh


def _told(session: Session, found: Iterable[Lost]) -> set[str]:
    """The names of containers that their leases' events tell of."""
    ids = {one.lease_id for one in found}
    rows = session.execute(
        sa.select(Event.data["container"].astext).where(Event.lease_id.in_(ids), Event.kind == KIND)
    )
    return set(rows.scalars())
