"""Leases that rest: what tests do with them, and what the engine then holds."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.model import Allocation, Event, Lease, Run
from leasing.service import transitions
from leasing.settings.limits import LimitSettings
from leasing.states import Cause, Goal, LeaseState, SuspendReason
from scheduler.reconcile import found, kept
from scheduler.reconcile.orphans import Orphans
from tests.support.cluster import LIMITS, Cluster

FILE = "/home/lease/model"


def suspend(cluster: Cluster, lease: Lease) -> Lease:
    cluster.suspend(lease.id)
    return cluster.lease(lease.id)


def resume(cluster: Cluster, lease: Lease, limits: LimitSettings = LIMITS) -> Lease:
    cluster.resume(lease.id, limits)
    return cluster.lease(lease.id)


def preempt(cluster: Cluster, lease: Lease) -> None:
    """As the planner does it."""

    def act(session: Session, row: Lease, at: datetime) -> None:
        row.suspend_reason = SuspendReason.PREEMPTED
        transitions.move(
            session, row, LeaseState.STOPPING, Cause.PLANNER,
            now=at, actor="planner", message="it gives way to big", goal=Goal.SUSPENDED,
        )  # fmt: skip

    cluster.change(lease.id, act)


def suspended(cluster: Cluster, **wishes: object) -> Lease:
    """A lease that has run, written a file, and been suspended."""
    lease = cluster.run(**{"gpu": "1", "ttl": "2h"} | wishes)
    cluster.driver.write_file(cluster.container(lease.id), FILE, b"weights")
    suspend(cluster, lease)
    cluster.work()
    found = cluster.lease(lease.id)
    assert found.state == "suspended"
    return found


def name(cluster: Cluster, lease: Lease, generation: int) -> str:
    return cluster.container(lease.id, generation)


def on_engine(cluster: Cluster) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """Its containers with their states, its networks, and the images that are kept for leases."""
    containers = [(one.name, one.state) for one in cluster.driver.containers(cluster.installation)]
    tags = [image.tags[0] for image in cluster.driver.images() if image.kept_by(cluster.installation)]
    return containers, cluster.driver.networks(cluster.installation), tags


def kept_image(cluster: Cluster, lease: Lease, generation: int) -> str:
    return f"leasing/kept-{cluster.installation}-{lease.id.hex[:12]}:{generation}"


def find(cluster: Cluster) -> list[str]:
    """What lost leases had and is there again is seen to; the names of what is told of."""
    return found.run_once(
        cluster.sessions, cluster.driver, cluster.node_id, cluster.installation, keep_days=7, grace_seconds=0
    )


def sweep(cluster: Cluster) -> list[str]:
    find(cluster)
    kept.run_once(cluster.sessions, cluster.driver, cluster.node_id, cluster.installation, lost_keep_days=7)
    orphans = Orphans(cluster.sessions, cluster.installation, grace_seconds=0, lost_keep_days=7)
    return orphans.run_once(cluster.driver, cluster.node_id)


def events_of(cluster: Cluster, lease: Lease) -> list[tuple[str, str]]:
    """Kind and message of each, in their order."""
    with cluster.sessions() as session:
        rows = session.execute(
            sa.select(Event.kind, Event.message).where(Event.lease_id == lease.id).order_by(Event.id)
        )
        return [(kind, message) for kind, message in rows]


def happened(cluster: Cluster, lease: Lease) -> list[tuple[str, str]]:
    with cluster.sessions() as session:
        rows = session.execute(
            sa.select(Event.to_state, Event.actor).where(Event.lease_id == lease.id).order_by(Event.id)
        )
        return [(state, actor) for state, actor in rows if state is not None]


def held(cluster: Cluster) -> tuple[int, int]:
    """Open runs and allocations."""
    with cluster.sessions() as session:
        runs = session.execute(sa.select(sa.func.count(Run.id)).where(Run.released_at.is_(None)))
        parts = session.execute(
            sa.select(sa.func.count(Allocation.id)).where(Allocation.released_at.is_(None))
        )
        return runs.scalar_one(), parts.scalar_one()
