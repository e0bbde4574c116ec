"""Reservations on a real PostgreSQL: who gets which devices when, and what leases may still do beside them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.exc import IntegrityError

from leasing.database import now
from leasing.errors import (
    Conflict,
    Invalid,
    LeasingError,
    NameTaken,
    NeverFits,
    NotAllowed,
    NotFound,
    NotFree,
    OverQuota,
)
from leasing.gpus import parse_gpu
from leasing.model import Device, Event, Lease, Member, Node, Project, Reservation, ReservedDevice
from leasing.schema.reservation import ReservationRequest
from leasing.service import bookings, reservations
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import Role
from tests.support.calendar import add_node, book
from tests.support.cluster import Cluster, user

HOUR = timedelta(hours=1)


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=4, cpus=16) as made:
        yield made


def devices(cluster: Cluster, reservation: Reservation) -> list[int]:
    """Indexes of what it holds."""
    with cluster.sessions() as session:
        return list(
            session.execute(
                sa.select(Device.index)
                .join(ReservedDevice, ReservedDevice.device_id == Device.id)
                .where(ReservedDevice.reservation_id == reservation.id, ReservedDevice.live)
                .order_by(Device.index)
            ).scalars()
        )


def kinds(cluster: Cluster) -> list[str]:
    with cluster.sessions() as session:
        return list(
            session.execute(
                sa.select(Event.kind).where(Event.kind.like("reservation.%")).order_by(Event.id)
            ).scalars()
        )


def person(cluster: Cluster, name: str, role: Role = Role.DEVELOPER) -> Principal:
    with cluster.sessions.begin() as session:
        return user(session, name, role)


def test_devices_are_given_for_a_range_and_to_nobody_else_in_it(cluster: Cluster) -> None:
    first = book(cluster, name="first", gpu="A100:3")
    assert (first.ends_at - first.starts_at, first.gpu_count, first.gpu_model) == (HOUR, 3, "A100")
    second = book(cluster, name="second", gpu="1")
    assert not set(devices(cluster, first)) & set(devices(cluster, second))
    with pytest.raises(NotFree) as refused:
        book(cluster, name="third", gpu="2", cpus="1", memory="1G")
    later = (first.ends_at + timedelta(seconds=59)).replace(second=0, microsecond=0)
    assert f"they are from {later:%Y-%m-%d %H:%M UTC} on" in refused.value.message
    assert (
        refused.value.hint
        == f"lease reserve add third --gpu 2 --cpus 1 --memory 1024M --from {later:%Y-%m-%dT%H:%MZ} --for 1h"
    )
    assert devices(cluster, book(cluster, name="third", gpu="2", starts_at=later)) == [0, 1]
    assert devices(cluster, book(cluster, name="before", gpu="4", starts_at=None, ttl="50m"))
    assert kinds(cluster) == ["reservation.booked"] * 4
    with cluster.sessions() as session:
        page = bookings.page(session, now=now(session))
    assert [one.name for one in page.items] == ["before", "first", "second", "third"]
    assert (page.items[1].owner, page.items[1].gpu, len(page.items[1].devices)) == ("ada", "A100:3", 3)


def test_the_hint_of_a_refusal_works(cluster: Cluster) -> None:
    book(cluster, gpu="4", starts_at=timedelta(hours=2), ttl="90m")
    with pytest.raises(NotFree) as refused:
        book(cluster, gpu="4", starts_at=HOUR, ttl="2h")
    assert refused.value.hint is not None
    words = refused.value.hint.split()
    start = datetime.fromisoformat(words[words.index("--from") + 1])
    assert len(devices(cluster, book(cluster, gpu="4", starts_at=start, ttl="2h"))) == 4


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        ({"gpu": "0"}, Invalid),
        ({"gpu": "0.5"}, Invalid),
        ({"gpu": "24GB"}, Invalid),
        ({"starts_at": -HOUR}, Invalid),
        ({"starts_at": timedelta(days=31)}, Invalid),
        ({"ttl": "8d"}, Invalid),
        ({"ttl": None, "until": timedelta(minutes=30)}, Invalid),
        ({"gpu": "5"}, NeverFits),
        ({"gpu": "H100:1"}, NeverFits),
        ({"cpus": "17"}, NeverFits),
        ({"node": "nosuch"}, NotFound),
        ({"project": "nosuch"}, NotFound),
        ({"name": "Not a name"}, Invalid),
    ],
)
def test_what_cannot_be_is_refused(cluster: Cluster, ask: dict[str, Any], error: type[LeasingError]) -> None:
    with pytest.raises(error) as refused:
        book(cluster, **ask)
    assert type(refused.value) is error
    assert refused.value.hint
    assert kinds(cluster) == []


def test_nobody_books_more_at_the_same_time_than_they_may_have(cluster: Cluster) -> None:
    few = LimitSettings(devices_per_user=3)
    book(cluster, gpu="2", limits=few)
    with pytest.raises(OverQuota, match="4 devices reserved for ada at the same time; the limit is 3"):
        book(cluster, gpu="2", limits=few)
    book(cluster, gpu="2", starts_at=timedelta(hours=3), limits=few)
    book(cluster, person(cluster, "eve"), gpu="2", limits=few)


def test_a_name_is_one_live_reservation_s(cluster: Cluster) -> None:
    book(cluster, name="review")
    with pytest.raises(NameTaken, match="review"):
        book(cluster, name="review")


def test_cpus_and_memory_count_beside_other_reservations_and_leases(cluster: Cluster) -> None:
    cluster.run(cpus="6", ttl="4h")
    book(cluster, cpus="6", ttl="30m")
    with pytest.raises(NotFree):
        book(cluster, cpus="6", ttl="30m", starts_at=HOUR + timedelta(minutes=15))
    book(cluster, cpus="4", starts_at=HOUR + timedelta(minutes=15))
    book(cluster, cpus="6", ttl="30m", starts_at=timedelta(hours=3))
    book(cluster, cpus="16", ttl="30m", starts_at=timedelta(hours=5))


def test_leases_that_end_before_do_not_matter_and_others_do(cluster: Cluster) -> None:
    long = cluster.run(gpu="3", ttl="4h")
    cluster.run(gpu="1", ttl="30m")
    with pytest.raises(NotFree, match="they are from"):
        book(cluster, gpu="2")
    one = book(cluster, gpu="1")
    with cluster.sessions() as session:
        held = {two.index for lease in bookings.page(session, now=now(session)).leases if lease.lease == long.name
                for two in lease.devices}  # fmt: skip
    assert not set(devices(cluster, one)) & held
    assert devices(cluster, book(cluster, gpu="4", starts_at=timedelta(hours=5))) == [0, 1, 2, 3]


def test_what_is_out_of_use_is_left_out(cluster: Cluster) -> None:
    with cluster.sessions.begin() as session:
        zero, one, two, _ = session.execute(sa.select(Device).order_by(Device.index)).scalars()
        zero.intent, one.health, two.quarantined_since = "cordoned", "faulty", now(session)
    with pytest.raises(NotFree, match="nor at any later time"):
        book(cluster, gpu="2")
    assert devices(cluster, book(cluster, gpu="1")) == [3]


def test_well_connected_devices_are_chosen(cluster: Cluster) -> None:
    with cluster.sessions.begin() as session:
        node = session.execute(sa.select(Node)).scalar_one()
        uuids = list(session.execute(sa.select(Device.uuid).order_by(Device.index)).scalars())
        node.topology = [
            {"a": uuids[0], "b": uuids[1], "rank": 10},
            {"a": uuids[1], "b": uuids[3], "rank": 100},
            {"a": uuids[2], "b": uuids[3], "rank": 10},
        ]
    assert devices(cluster, book(cluster, gpu="2")) == [1, 3]


def test_the_smallest_node_that_will_do_is_taken_or_the_one_that_is_named(cluster: Cluster) -> None:
    small = add_node(cluster, "small", devices=2)
    assert book(cluster, gpu="2").node_id == small
    assert book(cluster, gpu="2").node_id == cluster.node_id
    assert book(cluster, gpu="2", node="local").node_id == cluster.node_id
    with pytest.raises(NotFree, match="on node local"):
        book(cluster, gpu="1", node="local")


def test_the_database_refuses_two_on_one_device(cluster: Cluster) -> None:
    one, other = book(cluster, gpu="1"), book(cluster, gpu="1")
    with cluster.sessions() as session:
        taken = session.execute(
            sa.select(Device)
            .join(ReservedDevice, ReservedDevice.device_id == Device.id)
            .where(ReservedDevice.reservation_id == one.id)
        ).scalar_one()
        session.add(
            ReservedDevice(
                reservation_id=other.id,
                device_id=taken.id,
                device_number=taken.number,
                during=Range(one.ends_at - timedelta(seconds=1), one.ends_at + HOUR),
            )
        )
        with pytest.raises(IntegrityError, match="ex_reserved_device_during"):
            session.flush()


def test_of_two_who_book_the_same_at_once_one_is_refused(cluster: Cluster) -> None:
    people = [cluster.ada, person(cluster, "eve")]
    barrier = threading.Barrier(2)
    outcomes: list[str] = []

    def go(who: Principal) -> None:
        barrier.wait()
        try:
            book(cluster, who, gpu="3")
            outcomes.append("booked")
        except NotFree:
            outcomes.append("refused")

    threads = [threading.Thread(target=go, args=(who,)) for who in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["booked", "refused"]
    with cluster.sessions() as session:
        assert session.execute(sa.select(sa.func.count()).select_from(ReservedDevice)).scalar_one() == 3


def test_who_meets_the_database_s_refusal_takes_other_devices(cluster: Cluster) -> None:
    """Rows that are not committed are seen by nobody, and yet stand in the way once they are."""
    book(cluster, starts_at=timedelta(days=3))
    made: list[Reservation] = []
    thread = threading.Thread(target=lambda: made.append(book(cluster, gpu="1")))
    with cluster.sessions() as session:
        moment = now(session)
        starts_at, ends_at = moment, moment + timedelta(hours=9)
        session.execute(sa.update(Reservation).values(starts_at=starts_at, ends_at=ends_at))
        session.execute(sa.update(ReservedDevice).values(during=Range(starts_at, ends_at)))
        thread.start()
        _until_blocked(cluster)
        session.commit()
    thread.join()
    assert devices(cluster, made[0]) == [1]


def test_the_planner_waits_for_a_booking_that_is_under_way(cluster: Cluster) -> None:
    lease = cluster.ask(gpu="1", ttl="4h")
    planner = threading.Thread(target=cluster.plan)
    with cluster.sessions.begin() as session:
        moment = now(session)
        reservations.book(
            session,
            ReservationRequest(gpu="4", starts_at=moment + timedelta(minutes=1), ttl="1h"),
            principal=cluster.ada,
            limits=LimitSettings(),
            now=moment,
        )
        planner.start()
        _until_blocked(cluster)
    planner.join()
    assert cluster.lease(lease.id).state == "queued"


def _until_blocked(cluster: Cluster) -> None:
    while True:
        with cluster.sessions() as session:
            waiting = session.execute(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one()
        if waiting:
            return


def test_cancelling_gives_back_once_and_only_by_who_may(cluster: Cluster) -> None:
    made = book(cluster, name="review", gpu="4")
    eve, root = person(cluster, "eve"), person(cluster, "root", Role.ADMIN)

    def cancel(who: Principal) -> None:
        with cluster.sessions.begin() as session:
            found = reservations.find(session, "review", lock=True)
            reservations.cancel(session, found, principal=who)

    with pytest.raises(NotAllowed, match="somebody else's"):
        cancel(eve)
    cancel(cluster.ada)
    cancel(root)
    assert kinds(cluster) == ["reservation.booked", "reservation.cancelled"]
    assert devices(cluster, made) == []
    book(cluster, eve, name="review", gpu="4")
    cancel(root)
    with cluster.sessions() as session, pytest.raises(NotFound):
        reservations.find(session, "nosuch")


def test_its_owner_members_and_admins_may_use_it(cluster: Cluster) -> None:
    eve, viewer, bob = (person(cluster, name) for name in ("eve", "viewer", "bob"))
    root = person(cluster, "root", Role.ADMIN)
    with cluster.sessions.begin() as session:
        project = Project(name="vision", open=False)
        session.add(project)
        session.flush()
        for who, role in ((cluster.ada, "developer"), (eve, "developer"), (viewer, "viewer")):
            session.add(Member(project_id=project.id, user_id=who.user_id, role=role))
    made = book(cluster, name="ours", gpu="2", project="vision")
    book(cluster, name="mine", gpu="1")

    def use(
        who: Principal, name: str = "ours", gpu: str = "2", at: datetime | None = None, cpus: int = 1000
    ) -> UUID:
        ask = parse_gpu(gpu)
        lease = Lease(
            gpu_count=ask.count, gpu_model=ask.model, gpu_share=ask.share, cpus_millis=cpus, memory_bytes=1
        )
        with cluster.sessions() as session:
            return reservations.to_use(session, name, lease, principal=who, now=at or now(session)).id

    assert {use(who) for who in (cluster.ada, eve, root)} == {made.id}
    for who in (viewer, bob):
        with pytest.raises(NotAllowed, match="may not lease under"):
            use(who)
    with pytest.raises(NotAllowed):
        use(eve, "mine", "1")  # a project that is open to all makes nobody a member
    for gpu in ("0", "3", "H100:1"):
        with pytest.raises(Invalid, match="has 2"):
            use(cluster.ada, gpu=gpu)
    with pytest.raises(
        Invalid, match=r"64 CPUs and 1B of memory are asked for; reservation 'ours' has 1 CPUs"
    ):
        use(cluster.ada, cpus=64_000)
    assert use(cluster.ada, gpu="A100:1") == use(cluster.ada, gpu="0.5") == made.id
    with pytest.raises(Conflict, match="over since"):
        use(cluster.ada, at=made.ends_at)
    with pytest.raises(NotFound):
        use(cluster.ada, "nosuch")
