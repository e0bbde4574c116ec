"""Leases that were active or quiet for a while, as their signals say."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from leasing.database import now
from leasing.model import Lease, Run, Signal, SignalKind
from leasing.service import signals
from leasing.service.signals import Observation
from tests.support.cluster import Cluster

ALL = "cpu disk network gpu gpu_memory terminal keep"
"""What there is of every lease with a GPU and without a port."""


def quiet(cluster: Cluster, lease: Lease, kinds: str = ALL, *, active: str = "", minutes: float = 31) -> None:
    """Steady readings of `kinds` for so long, of which `active` is active now; it has run for longer than that."""
    with cluster.sessions.begin() as session:
        moment = now(session)
        since = moment - timedelta(minutes=minutes)
        session.execute(
            sa.update(Run).where(Run.lease_id == lease.id).values(started_at=since - timedelta(minutes=30))
        )
        observations = [
            Observation(lease.id, SignalKind(kind), 2.0**30 * (kind == active)) for kind in kinds.split()
        ]
        signals.observe(session, observations, now=moment)
        session.execute(sa.update(Signal).where(Signal.lease_id == lease.id).values(known_since=since))
