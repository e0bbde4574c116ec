"""How far a lease can be extended beside reservations, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import NotFree
from leasing.model import Keep, Lease
from leasing.schema.lease import RenewRequest
from leasing.service import leases
from leasing.settings.limits import LimitSettings
from leasing.units import parse_duration
from tests.support.calendar import book
from tests.support.cluster import Cluster
from tests.support.warned import clock, quiet_since


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=4, cpus=16) as made:
        yield made


@pytest.fixture
def extend(cluster: Cluster) -> Callable[..., Lease]:
    def extend(lease: Lease, **ask: object) -> Lease:
        def act(session: Session, row: Lease, moment: datetime) -> None:
            leases.renew(
                session,
                row,
                RenewRequest.model_validate(ask),
                principal=cluster.ada,
                limits=LimitSettings(),
                now=moment,
            )

        cluster.change(lease.id, act)
        return cluster.lease(lease.id)

    return extend


def kept_for(cluster: Cluster) -> timedelta:
    with cluster.sessions() as session:
        keep = session.execute(sa.select(Keep)).scalar_one()
        assert keep.until is not None
        return keep.until - keep.created_at


@pytest.mark.parametrize(
    ("ttl", "most", "kept", "has"),
    [
        ("7d", "7d", "2h", "7d"),  # the longest that there is: a keep needs no more of it
        ("50m", "1h", "50m", "50m"),  # nor does it outlast the lease
        ("10m", "30m", "30m", "30m"),
        ("10m", "7d", "2h", "2h10m"),
    ],
)
def test_what_is_quiet_is_kept_for_the_usual_time_whatever_room_there_is(
    cluster: Cluster, ttl: str, most: str, kept: str, has: str
) -> None:
    lease = cluster.run(ttl=ttl)
    quiet_since(cluster, lease, timedelta(minutes=30))

    def act(session: Session, row: Lease, moment: datetime) -> None:
        limits = LimitSettings(max_ttl_seconds=parse_duration(most))
        leases.renew(session, row, RenewRequest(), principal=cluster.ada, limits=limits, now=moment)

    cluster.change(lease.id, act)
    ends_at, near = cluster.lease(lease.id).ends_at, timedelta(minutes=1)
    assert ends_at is not None
    assert abs(ends_at - clock(cluster) - timedelta(seconds=parse_duration(has))) < near
    assert abs(kept_for(cluster) - timedelta(seconds=parse_duration(kept))) < near


def test_a_renewal_ends_where_a_reservation_begins(cluster: Cluster, extend: Callable[..., Lease]) -> None:
    lease = cluster.run(name="train", gpu="4", ttl="30m")
    made = book(cluster, gpu="1", starts_at=timedelta(hours=2))
    with pytest.raises(NotFree) as refused:
        extend(lease, ttl="3h")
    possible = made.starts_at.replace(second=0, microsecond=0)
    assert f"reserved from {possible:%Y-%m-%d %H:%M UTC} on" in refused.value.message
    assert refused.value.hint is not None
    assert refused.value.hint.endswith(f"lease extend train --until {possible:%Y-%m-%dT%H:%MZ}")
    with pytest.raises(NotFree):
        extend(lease, until=made.starts_at + timedelta(seconds=1))
    assert extend(lease, until=possible).ends_at == possible
    with pytest.raises(NotFree, match="reserved") as last:
        extend(lease, ttl="1h")
    assert last.value.hint == "It has all the time that there is; for another place: lease up --gpu 4"


def test_a_renewal_beside_a_reservation_is_free_unless_it_takes_its_cpus(
    cluster: Cluster, extend: Callable[..., Lease]
) -> None:
    gpu = cluster.run(gpu="1", cpus="2", ttl="30m")
    cpus = cluster.run(gpu="0", cpus="6", ttl="30m")
    book(cluster, gpu="1", cpus="10")
    held = cluster.lease(gpu.id).ends_at
    assert held is not None
    assert extend(gpu, ttl="3h").ends_at == held + timedelta(hours=3)
    with pytest.raises(NotFree):
        extend(cpus, ttl="3h")


def test_a_lease_under_a_reservation_goes_on_after_it_while_nobody_else_comes(
    cluster: Cluster, extend: Callable[..., Lease]
) -> None:
    lease = cluster.run(gpu="4", ttl="30m")
    made = book(cluster, gpu="4", starts_at=timedelta(minutes=40))
    book(cluster, gpu="4", starts_at=timedelta(hours=3))
    with cluster.sessions.begin() as session:
        session.get_one(Lease, lease.id).reservation_id = made.id
    assert extend(lease, until=made.ends_at).ends_at == made.ends_at
    assert extend(lease, ttl="30m").ends_at == made.ends_at + timedelta(minutes=30)
    with pytest.raises(NotFree):
        extend(lease, ttl="2h")
    with pytest.raises(NotFree):  # that half hour is the lease's own now
        book(cluster, gpu="1", starts_at=made.ends_at + timedelta(minutes=1), ttl="10m")
