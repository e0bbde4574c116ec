"""What becomes of reservations as time passes and devices break: the scheduler's own stage on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Range

from leasing.database import now
from leasing.model import Device, Event, Lease, Node, Reservation, ReservedDevice
from leasing.states import LeaseState
from monitoring import collector
from scheduler.reconcile import bookings
from tests.support.calendar import add_node, book
from tests.support.cluster import Cluster

HOUR = timedelta(hours=1)


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=4, cpus=16) as made:
        yield made


@pytest.fixture
def booked(cluster: Cluster) -> Reservation:
    """Two devices, in an hour, for an hour."""
    return book(cluster, name="review", gpu="2")


def pass_time(cluster: Cluster, booked: Reservation, by: timedelta) -> None:
    """As if it had been booked so much earlier; nobody waits in a test for hours to pass."""
    with cluster.sessions.begin() as session:
        one = session.get_one(Reservation, booked.id)
        one.starts_at -= by
        one.ends_at -= by
        session.execute(
            sa.update(ReservedDevice)
            .where(ReservedDevice.reservation_id == booked.id)
            .values(during=Range(one.starts_at, one.ends_at))
        )


def look(cluster: Cluster) -> None:
    bookings.run_once(cluster.sessions, cluster.settings)


def read(cluster: Cluster, booked: Reservation) -> tuple[Reservation, list[tuple[str, int]]]:
    """The row, and the devices that it holds."""
    with cluster.sessions() as session:
        rows = session.execute(
            sa.select(Node.name, Device.index)
            .join(Device, Device.node_id == Node.id)
            .join(ReservedDevice, ReservedDevice.device_id == Device.id)
            .where(ReservedDevice.reservation_id == booked.id, ReservedDevice.live)
            .order_by(Node.name, Device.index)
        )
        return session.get_one(Reservation, booked.id), [(name, index) for name, index in rows]


def told(cluster: Cluster, kind: str) -> list[str]:
    with cluster.sessions() as session:
        return list(
            session.execute(
                sa.select(Event.message).where(Event.kind == f"reservation.{kind}").order_by(Event.id)
            ).scalars()
        )


def under(cluster: Cluster, booked: Reservation, lease: Lease) -> None:
    """As if the lease had been asked for under the reservation."""
    with cluster.sessions.begin() as session:
        session.get_one(Lease, lease.id).reservation_id = booked.id


def change(cluster: Cluster, index: int, act: Callable[[Device], None]) -> None:
    with cluster.sessions.begin() as session:
        found = sa.select(Device).where(Device.index == index, Device.node_id == cluster.node_id)
        act(session.execute(found).scalar_one())


def fault(device: Device) -> None:
    device.health = "faulty"


def test_what_lies_ahead_is_left_alone(cluster: Cluster, booked: Reservation) -> None:
    look(cluster)
    row, devices = read(cluster, booked)
    assert (row.state, row.late_since, row.message, len(devices)) == ("booked", None, "", 2)


def test_nobody_came(cluster: Cluster, booked: Reservation) -> None:
    pass_time(cluster, booked, HOUR + timedelta(minutes=14))
    look(cluster)
    assert read(cluster, booked)[0].state == "booked"
    pass_time(cluster, booked, timedelta(minutes=1))
    look(cluster)
    look(cluster)
    row, devices = read(cluster, booked)
    assert (row.state, devices) == ("missed", [])
    assert told(cluster, "missed") == ["nobody came for reservation review, and its devices were given back"]
    book(cluster, gpu="4")


def test_who_waits_has_come(cluster: Cluster, booked: Reservation) -> None:
    lease = cluster.ask(gpu="2")
    under(cluster, booked, lease)
    pass_time(cluster, booked, HOUR + timedelta(minutes=20))
    look(cluster)
    assert read(cluster, booked)[0].state == "booked"
    cluster.release(lease.id)
    look(cluster)
    assert read(cluster, booked)[0].state == "missed"


@pytest.mark.parametrize(("state", "becomes"), [("used", "over"), ("booked", "missed")])
def test_its_time_is_over(cluster: Cluster, booked: Reservation, state: str, becomes: str) -> None:
    with cluster.sessions.begin() as session:
        session.get_one(Reservation, booked.id).state = state
    pass_time(cluster, booked, 2 * HOUR)
    look(cluster)
    look(cluster)
    row, devices = read(cluster, booked)
    assert (row.state, devices) == (becomes, [])
    assert len(told(cluster, becomes)) == 1


def test_somebody_has_not_left(cluster: Cluster) -> None:
    stranger = cluster.run(name="stranger", gpu="4", ttl="30m")
    made = book(cluster, name="review", gpu="2")
    with cluster.sessions.begin() as session:
        session.get_one(Lease, stranger.id).ends_at = now(session) + 5 * HOUR
    pass_time(cluster, made, HOUR + timedelta(seconds=5))
    look(cluster)
    assert read(cluster, made)[0].late_since is None  # a lease that ends just then has its time to stop
    pass_time(cluster, made, timedelta(seconds=10))
    look(cluster)
    since = read(cluster, made)[0].late_since
    look(cluster)
    assert since is not None
    assert read(cluster, made)[0].late_since == since
    assert _late(cluster) == 1
    (message,) = told(cluster, "late")
    assert message.startswith(
        "reservation review waits for its devices: GPU 0 is still held by lease stranger of ada"
    )
    cluster.release(stranger.id)
    cluster.work()
    look(cluster)
    assert read(cluster, made)[0].late_since is None
    assert len(told(cluster, "ready")) == 1
    assert _late(cluster) == 0


def _late(cluster: Cluster) -> float:
    """As Prometheus would read it."""
    with cluster.sessions() as session:
        lines = collector.render(session).decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("leasing_reservations_late "))


def test_its_own_leases_keep_it_from_nothing(cluster: Cluster) -> None:
    lease = cluster.run(gpu="2", ttl="30m")
    made = book(cluster, name="review", gpu="4")
    under(cluster, made, lease)
    pass_time(cluster, made, HOUR + timedelta(minutes=1))
    look(cluster)
    assert read(cluster, made)[0].late_since is None


@pytest.mark.parametrize(
    "act",
    [
        fault,
        lambda device: setattr(device, "health", "lost"),
        lambda device: setattr(device, "health", "retired"),
        lambda device: setattr(device, "intent", "cordoned"),
        lambda device: setattr(device, "quarantined_since", device.created_at),
    ],
)
def test_a_broken_device_is_replaced_on_its_node(
    cluster: Cluster, booked: Reservation, act: Callable[[Device], None]
) -> None:
    assert read(cluster, booked)[1] == [("local", 0), ("local", 1)]
    change(cluster, 1, act)
    look(cluster)
    look(cluster)
    row, devices = read(cluster, booked)
    assert devices == [("local", 0), ("local", 2)]
    (message,) = told(cluster, "moved")
    assert message.startswith("reservation review was moved to GPU 2 of local: GPU 1 of local is ")
    assert row.message in message
    with cluster.sessions() as session:
        during = session.execute(sa.select(ReservedDevice.during)).scalars().all()
    assert {(one.lower, one.upper) for one in during} == {(row.starts_at, row.ends_at)}


def test_a_device_that_comes_back_may_be_had_again(cluster: Cluster, booked: Reservation) -> None:
    for index in (1, 2, 3):
        change(cluster, index, fault)
        if index < 3:
            look(cluster)
    change(cluster, 1, lambda device: setattr(device, "health", "ok"))
    look(cluster)
    assert read(cluster, booked)[1] == [("local", 0), ("local", 1)]


def test_all_of_it_moves_to_another_node_while_nobody_uses_it(cluster: Cluster) -> None:
    made = book(cluster, name="review", gpu="4")
    other = add_node(cluster, "other", devices=4)
    change(cluster, 3, fault)
    look(cluster)
    row, devices = read(cluster, made)
    assert (row.node_id, devices) == (other, [("other", index) for index in range(4)])
    assert told(cluster, "moved") == [
        "reservation review was moved to GPU 0, GPU 1, GPU 2, GPU 3 of other: GPU 3 of local is faulty"
    ]


def test_a_cordoned_node_is_left(cluster: Cluster, booked: Reservation) -> None:
    other = add_node(cluster, "other", devices=2)
    with cluster.sessions.begin() as session:
        session.get_one(Node, cluster.node_id).intent = "cordoned"
    look(cluster)
    assert read(cluster, booked)[0].node_id == other
    assert told(cluster, "moved")[0].endswith("of other: node local is cordoned")


def test_nothing_else_is_free(cluster: Cluster) -> None:
    made = book(cluster, name="review", gpu="4")
    change(cluster, 3, fault)
    look(cluster)
    look(cluster)
    row, devices = read(cluster, made)
    assert len(devices) == 4
    assert row.message == (
        "not all of its devices can be used: GPU 3 of local is faulty, and no other is free for all of its time"
    )
    assert len(told(cluster, "broken")) == 1
    change(cluster, 3, lambda device: setattr(device, "health", "ok"))
    look(cluster)
    assert read(cluster, made)[0].message == ""
    assert told(cluster, "moved") == []


def test_what_its_own_lease_uses_is_not_taken_away(cluster: Cluster, booked: Reservation) -> None:
    lease = cluster.run(gpu="2", ttl="30m")
    assert [device for _, device in read(cluster, booked)[1]] == [0, 1]
    under(cluster, booked, lease)
    add_node(cluster, "other", devices=4)
    pass_time(cluster, booked, HOUR)
    change(cluster, 1, fault)
    look(cluster)
    assert read(cluster, booked)[1] == [("local", 0), ("local", 1)]
    cluster.release(lease.id)
    cluster.work()
    assert cluster.lease(lease.id).state == LeaseState.ENDED
    look(cluster)
    assert read(cluster, booked)[1] == [("local", 0), ("local", 2)]


def test_two_schedulers_do_each_thing_once(cluster: Cluster, booked: Reservation) -> None:
    second = book(cluster, name="second")
    pass_time(cluster, second, 3 * HOUR)
    change(cluster, 0, fault)
    barrier = threading.Barrier(4)

    def go() -> None:
        barrier.wait()
        for _ in range(3):
            look(cluster)

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told(cluster, "missed")) == len(told(cluster, "moved")) == 1
    assert read(cluster, booked)[1] in ([("local", 1), ("local", 2)], [("local", 1), ("local", 3)])
