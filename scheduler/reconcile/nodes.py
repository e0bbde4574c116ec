"""Stage: does each node's engine answer, and what does it say of itself?"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import Sessions, now
from leasing.drivers.protocol import KEPT, LABEL_ROLE, Engine
from leasing.errors import DriverError
from leasing.model import Lease, Node, Run
from leasing.service import events
from leasing.states import LeaseState, NodeHealth
from scheduler.fleet import Fleet

log = logging.getLogger(__name__)
ACTOR = "reconciler"
OWN_IMAGES = "leasing/"
"""How the catalogue's image names begin."""


def run_once(sessions: Sessions, fleet: Fleet) -> dict[UUID, Engine]:
    """Probe every node and write what was found; the engines that answered."""
    with sessions() as session:
        ids = list(session.execute(sa.select(Node.id).order_by(Node.name)).scalars())
    answered: dict[UUID, Engine] = {}
    for node_id in ids:
        try:
            engine = fleet.engine(node_id)
            answered[node_id] = engine.probe()
            images = [image for image in engine.images() if image.labels.get(LABEL_ROLE) != KEPT]
            present = [tag for image in images for tag in image.tags if tag.startswith(OWN_IMAGES)]
            _apply(sessions, node_id, asdict(answered[node_id]) | {"environments": sorted(present)}, "")
        except DriverError as error:
            _apply(sessions, node_id, None, error.message)
    return answered


def _apply(sessions: Sessions, node_id: UUID, engine: dict[str, Any] | None, reason: str) -> None:
    with sessions.begin() as session:
        node = session.execute(
            sa.select(Node).where(Node.id == node_id).with_for_update(key_share=True)
        ).scalar_one()
        if engine is None and node.health == NodeHealth.LOST:
            return  # as an admin said
        if engine is not None:
            moment = now(session)
            if node.engine_since is None or node.engine.get("epoch") != engine["epoch"]:
                node.engine_since = moment
            node.engine, node.engine_seen_at = engine, moment
            reason = _missing(session, node_id)
        health = NodeHealth.READY if engine is not None and not reason else NodeHealth.UNREACHABLE
        if node.health != health:
            log.warning("node changed name=%s health=%s reason=%s", node.name, health, reason)
            message = f"node {node.name} is {health}" + (f": {reason}" if reason else "")
            events.record(session, f"node.{health}", message, actor=ACTOR, node_id=node.id)
        node.health, node.health_reason = health, reason


def _missing(session: Session, node_id: UUID) -> str:
    """Why an engine that answers is not to be relied upon; empty if it is.

    Nothing new is placed on what may be an empty disk in the place of the one with everybody's containers.
    """
    missing = session.execute(
        sa.select(sa.func.count())
        .select_from(Run)
        .join(Lease, Lease.id == Run.lease_id)
        .where(
            Run.node_id == node_id, Run.released_at.is_(None), Run.missing_since.is_not(None),
            Lease.state == LeaseState.RUNNING,
        )
    ).scalar_one()  # fmt: skip
    if not missing:
        return ""
    of = "a lease" if missing == 1 else f"{missing} leases"
    return f"its engine was started anew and does not know the containers of {of}: is its disk mounted?"
