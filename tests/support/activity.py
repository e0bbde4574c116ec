"""Leases that were active or quiet for a while, as their signals say."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from leasing.database import now
from leasing.model import Activity, Lease, Run, Signal, SignalKind
from leasing.service import signals
from leasing.service.signals import Observation
from tests.support.cluster import Cluster

ALL = "cpu disk network gpu gpu_memory terminal keep"
"""What there is of every lease with a GPU and without a port."""
MINUTE = timedelta(minutes=1)


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


def story(cluster: Cluster, lease: Lease, minutes: str) -> None:
    """What the lease's GPU did until now: `x` is a busy minute, `.` a quiet one, `?` one that is not known."""
    quiet = {str(kind): 0.0 for kind in SignalKind}
    with cluster.sessions.begin() as session:
        begin = now(session).replace(second=0, microsecond=0) - len(minutes) * MINUTE
        session.execute(sa.update(Run).where(Run.lease_id == lease.id).values(started_at=begin))
        session.add_all(
            Activity(
                lease_id=lease.id,
                minute=begin + number * MINUTE,
                peaks={} if sign == "?" else quiet | {"gpu": 0.9 if sign == "x" else 0.0},
            )
            for number, sign in enumerate(minutes)
        )
