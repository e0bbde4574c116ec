"""A reservation from its booking to its end, through the real planner: walk-ins before, its own leases during it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Range

from leasing.model import Lease, Reservation, ReservedDevice, Run
from scheduler.clock import Clock
from scheduler.reclaim import Reclaimer
from scheduler.reconcile import bookings
from tests.support.calendar import book
from tests.support.cluster import Cluster


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=4, cpus=16) as made:
        yield made


def pass_time(cluster: Cluster, by: timedelta) -> None:
    """As if all that is booked and all that runs had begun so much earlier."""
    with cluster.sessions.begin() as session:
        session.execute(
            sa.update(Reservation).values(
                starts_at=Reservation.starts_at - by, ends_at=Reservation.ends_at - by
            )
        )
        session.execute(
            sa.update(Lease).values(
                ends_at=Lease.ends_at - by, until=Lease.until - by, started_at=Lease.started_at - by
            )
        )
        session.execute(sa.update(Run).values(started_at=Run.started_at - by))
        for one in session.execute(sa.select(Reservation)).scalars():
            session.refresh(one)
            session.execute(
                sa.update(ReservedDevice)
                .where(ReservedDevice.reservation_id == one.id)
                .values(during=Range(one.starts_at, one.ends_at))
            )


def state(cluster: Cluster, booked: Reservation) -> Reservation:
    with cluster.sessions() as session:
        return session.get_one(Reservation, booked.id)


def test_walk_ins_before_and_its_own_leases_during_it(cluster: Cluster) -> None:
    booked = book(
        cluster, name="review", gpu="4", cpus="8", memory="8G", starts_at=timedelta(hours=2), ttl="3h"
    )

    walk_in = cluster.run(name="walk-in", gpu="2", ttl="6h", at_least="30m")
    assert walk_in.ends_at == booked.starts_at
    waiting = cluster.ask(name="under", gpu="4", ttl="6h", reservation="review")
    cluster.plan()
    assert cluster.lease(waiting.id).state == "queued"
    assert "its reservation review begins" in " ".join(cluster.lease(waiting.id).blockers)

    pass_time(cluster, timedelta(hours=2))
    Reclaimer(cluster.sessions, Clock(cluster.sessions), cluster.settings).run_once()
    cluster.work()
    assert cluster.lease(walk_in.id).suspend_reason == "expired"
    bookings.run_once(cluster.sessions, cluster.settings)
    assert state(cluster, booked).state == "booked"

    other = cluster.ask(name="other", gpu="1", ttl="4h")
    cluster.plan()
    cluster.work()
    under, begun = cluster.lease(waiting.id), state(cluster, booked)
    assert (under.state, begun.state, begun.late_since) == ("running", "used", None)
    assert under.ends_at == begun.ends_at
    assert cluster.lease(other.id).state == "queued"

    pass_time(cluster, timedelta(hours=3))
    Reclaimer(cluster.sessions, Clock(cluster.sessions), cluster.settings).run_once()
    cluster.work()
    bookings.run_once(cluster.sessions, cluster.settings)
    assert (cluster.lease(under.id).suspend_reason, state(cluster, booked).state) == ("expired", "over")
    cluster.plan()
    assert cluster.lease(other.id).state == "placed"


def test_what_nobody_came_for_is_anybody_s(cluster: Cluster) -> None:
    booked = book(cluster, gpu="4", ttl="3h")
    pass_time(cluster, timedelta(hours=1, minutes=10))
    waiting = cluster.ask(gpu="1", ttl="4h")
    cluster.plan()
    bookings.run_once(cluster.sessions, cluster.settings)
    assert cluster.lease(waiting.id).state == "queued"
    pass_time(cluster, timedelta(minutes=5))
    bookings.run_once(cluster.sessions, cluster.settings)
    assert state(cluster, booked).state == "missed"
    cluster.plan()
    assert cluster.lease(waiting.id).state == "placed"
