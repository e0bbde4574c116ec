"""Stage: leases leave nodes that are being drained; their files are kept there."""

from __future__ import annotations

import logging
from uuid import UUID

import sqlalchemy as sa

from leasing.database import Sessions, now
from leasing.model import Lease, Node, Run
from leasing.service import policies, suspension
from leasing.states import LeaseState, NodeIntent, SuspendReason

log = logging.getLogger(__name__)
ACTOR = "drain"


def run_once(sessions: Sessions) -> list[UUID]:
    """Suspend what runs on draining nodes, each lease under its own lock; the ids of those leases.

    One that is being placed or started there is met once it runs: nothing is placed on a draining node any more.
    """
    with sessions.begin() as session:
        found = session.execute(
            sa.select(Lease, Node.name)
            .join(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
            .join(Node, Node.id == Run.node_id)
            .where(Node.intent == NodeIntent.DRAINING, Lease.state == LeaseState.RUNNING)
            .order_by(Lease.id)
            .with_for_update(of=Lease, skip_locked=True, key_share=True)
        ).all()
        rules = policies.effective(session, [lease for lease, _ in found])
        moment = now(session)
        for lease, node in found:
            suspension.take_back(
                session, lease, SuspendReason.DRAINED, rule=rules[lease.id], now=moment, actor=ACTOR,
                message=f"its node {node} is being drained",
            )  # fmt: skip
        taken = [lease.id for lease, _ in found]
    if taken:
        log.info("leases leave draining nodes leases=%s", ",".join(str(one) for one in taken))
    return taken
