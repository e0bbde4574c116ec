"""A plan written to a real PostgreSQL: all of it, only what still holds, and nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.gpus import WHOLE, GpuAsk
from leasing.model import (
    Allocation,
    Device,
    DeviceUsage,
    Event,
    Lease,
    NodeUsage,
    Reservation,
    Run,
    Workspace,
)
from leasing.service import transitions, views
from leasing.states import Cause, LeaseState, ReservationState
from scheduler.commit import Committed, commit
from scheduler.policy import snapshot
from scheduler.policy.snapshot import (
    Grant,
    Held,
    Node,
    Placement,
    Plan,
    Preemption,
    Request,
    Waiting,
    Yielding,
)
from tests.support.cluster import Cluster


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=8) as made:
        yield made


def waiting(lease: Lease, **facts: Any) -> Waiting:
    request = Request(GpuAsk(lease.gpu_count), lease.cpus_millis, lease.memory_bytes)
    return Waiting(lease.id, lease.name, request, lease.wait, **facts)


def node(cluster: Cluster) -> Node:
    with cluster.sessions() as session:
        rows = session.execute(sa.select(Device).order_by(Device.index)).scalars()
        devices = [
            snapshot.Device(row.id, row.uuid, row.index, row.model, row.memory_bytes, WHOLE, row.memory_bytes)
            for row in rows
        ]
    return Node(cluster.node_id, "local", 64_000, 2**38, devices)


def placement(cluster: Cluster, lease: Lease, *indexes: int, **facts: Any) -> Placement:
    there = node(cluster)
    grants = [Grant(there.devices[index], WHOLE, there.devices[index].memory_bytes) for index in indexes]
    return Placement(waiting(lease), there, grants, **facts)


def written(cluster: Cluster, plan: Plan) -> Committed:
    with cluster.sessions.begin() as session:
        return commit(session, plan, now(session))


def placing(*placements: Placement) -> Plan:
    return Plan(placements, [], {})


def events(cluster: Cluster, lease: Lease) -> list[Event]:
    with cluster.sessions() as session:
        return list(
            session.execute(sa.select(Event).where(Event.lease_id == lease.id).order_by(Event.id)).scalars()
        )


def count(cluster: Cluster, model: type[Run | Allocation | Event]) -> int:
    with cluster.sessions() as session:
        return session.execute(sa.select(sa.func.count()).select_from(model)).scalar_one()


def test_many_placements_are_written_together(cluster: Cluster) -> None:
    both, one, none = cluster.ask(gpu="2"), cluster.ask(gpu="1"), cluster.ask()
    plan = placing(placement(cluster, both, 5, 3), placement(cluster, one, 0), placement(cluster, none))
    assert written(cluster, plan) == Committed(3, 0, 0)
    with cluster.sessions() as session:
        rows = session.execute(
            sa.select(Run.lease_id, Device.index)
            .join_from(Run, Allocation)
            .join(Device)
            .order_by(Device.index)
        )
        assert [tuple(row) for row in rows] == [(one.id, 0), (both.id, 3), (both.id, 5)]
        runs = session.execute(sa.select(Run.lease_id, Run.node_id, Run.cpus_millis, Run.generation)).all()
        assert {tuple(row) for row in runs} == {
            (lease.id, cluster.node_id, 1000, 1) for lease in (both, one, none)
        }
        assert session.execute(sa.select(sa.func.sum(DeviceUsage.share_used))).scalar_one() == 3 * WHOLE
        assert session.execute(sa.select(NodeUsage.cpus_used_millis)).scalar_one() == 3000
    assert {cluster.lease(lease.id).state for lease in (both, one, none)} == {"placed"}
    event = events(cluster, both)[-1]
    assert (event.kind, event.from_state, event.to_state) == ("lease.placed", "queued", "placed")
    assert event.message == "placed on local on GPU 5, GPU 3"
    assert event.data == {"node": "local", "devices": [node(cluster).devices[index].uuid for index in (5, 3)]}
    assert events(cluster, none)[-1].message == "placed on local"


def test_the_same_plan_twice_changes_nothing_more(cluster: Cluster) -> None:
    lease, tired, stays = cluster.ask(gpu="1"), cluster.ask(wait=False), cluster.ask()
    plan = Plan(
        [placement(cluster, lease, 0)], [(waiting(tired), "it is full")], {stays.id: ["it is full"]},
        order=[lease.id, stays.id],
    )  # fmt: skip
    assert written(cluster, plan) == Committed(1, 1, 0)
    ended = cluster.lease(tired.id)
    assert (ended.state, ended.reason, ended.message) == ("ended", "cancelled", "No room now: it is full.")
    before = [count(cluster, model) for model in (Run, Allocation, Event)]
    row = versions(cluster, [lease, tired, stays])
    assert written(cluster, plan) == Committed(0, 0, 0)
    assert [count(cluster, model) for model in (Run, Allocation, Event)] == before
    assert versions(cluster, [lease, tired, stays]) == row


def versions(cluster: Cluster, found: Sequence[Lease]) -> list[str]:
    """Which transaction last wrote each row."""
    with cluster.sessions() as session:
        return [
            session.execute(
                sa.text("SELECT xmin::text FROM lease WHERE id = :id"), {"id": lease.id}
            ).scalar_one()
            for lease in found
        ]


def test_a_conflict_costs_nobody_else_their_place(cluster: Cluster) -> None:
    holder = cluster.ask(gpu="1")
    written(cluster, placing(placement(cluster, holder, 3)))
    first, clash, last = cluster.ask(gpu="1"), cluster.ask(gpu="2"), cluster.ask(gpu="1")
    plan = placing(placement(cluster, first, 0), placement(cluster, clash, 2, 3), placement(cluster, last, 4))
    assert written(cluster, plan) == Committed(2, 0, 1)
    assert [cluster.lease(lease.id).state for lease in (first, clash, last)] == ["placed", "queued", "placed"]
    assert events(cluster, clash)[-1].kind == "lease.conflict"
    assert [event.kind for event in events(cluster, last)] == ["lease.queued", "lease.placed"]
    with cluster.sessions() as session:
        used = session.execute(
            sa.select(Device.index).join(DeviceUsage).where(DeviceUsage.share_used > 0).order_by(Device.index)
        )
        assert list(used.scalars()) == [0, 3, 4]


def test_who_was_released_meanwhile_is_not_placed(cluster: Cluster) -> None:
    gone, stays = cluster.ask(gpu="1"), cluster.ask(gpu="1")
    plan = placing(placement(cluster, gone, 0), placement(cluster, stays, 1))
    cluster.release(gone.id)
    assert written(cluster, plan) == Committed(1, 0, 0)
    assert cluster.lease(gone.id).state == "ended"


def test_who_is_being_released_just_now_is_left_alone(cluster: Cluster) -> None:
    """Nobody waits for a person's transaction, and that person's lease is placed or told nothing."""
    placed, told = cluster.ask(gpu="1"), cluster.ask(gpu="1")
    plan = Plan([placement(cluster, placed, 0)], [], {told.id: ["it is full"]}, order=[told.id])
    with cluster.sessions.begin() as session:
        for lease in (placed, told):
            session.get_one(Lease, lease.id, with_for_update=True)
        assert written(cluster, plan) == Committed(0, 0, 0)
    assert cluster.lease(placed.id).state == "queued"
    assert cluster.lease(told.id).blockers == []


def test_two_planners_with_the_same_plan_place_everybody_once(cluster: Cluster) -> None:
    found = [cluster.ask(gpu="1") for _ in range(8)]
    plan = placing(*(placement(cluster, lease, index) for index, lease in enumerate(found)))
    ready = threading.Barrier(4)
    done: list[Committed] = []

    def act() -> None:
        ready.wait()
        done.append(written(cluster, plan))

    planners = [threading.Thread(target=act) for _ in range(4)]
    for planner in planners:
        planner.start()
    for planner in planners:
        planner.join()
    assert sum(one.placed for one in done) == 8
    assert count(cluster, Run) == count(cluster, Allocation) == 8


def test_a_lease_that_comes_back_gets_its_next_run(cluster: Cluster) -> None:
    lease = cluster.ask(gpu="1")
    written(cluster, placing(placement(cluster, lease, 0)))
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Allocation).values(released_at=now(session)))
        session.execute(sa.update(Run).values(released_at=now(session)))
        row = session.get_one(Lease, lease.id)
        transitions.move(
            session, row, LeaseState.QUEUED, Cause.STARTER, now=now(session), actor="t", message="m"
        )
    written(cluster, placing(placement(cluster, lease, 1)))
    with cluster.sessions() as session:
        assert list(session.execute(sa.select(Run.generation).order_by(Run.generation)).scalars()) == [1, 2]


def test_a_workspace_is_bound_to_the_node_of_its_first_use(cluster: Cluster) -> None:
    lease = cluster.ask(workspace="data")
    written(cluster, placing(placement(cluster, lease)))
    with cluster.sessions() as session:
        bound = session.execute(sa.select(Workspace)).scalar_one()
        assert bound.node_id == cluster.node_id
        assert bound.last_used_at is not None


def test_time_is_cut_where_a_reservation_begins(cluster: Cluster) -> None:
    lease = cluster.ask(gpu="1", ttl="8h")
    ends = datetime.fromisoformat("2100-01-02T03:00:00+00:00")
    written(cluster, placing(placement(cluster, lease, 0, ends_before=ends)))
    bounded = cluster.lease(lease.id)
    assert (bounded.state, bounded.until, bounded.ttl_seconds) == ("placed", ends, None)
    said = [event.message for event in events(cluster, lease) if event.kind == "lease.bounded"]
    assert said == ["a reservation begins at 2100-01-02 03:00 UTC, and its time ends then"]
    cluster.work()
    assert cluster.lease(lease.id).ends_at == ends


def test_a_reservation_is_used_once_a_lease_under_it_has_its_place(cluster: Cluster) -> None:
    lease = cluster.ask(gpu="1")
    with cluster.sessions.begin() as session:
        moment = now(session)
        booked = Reservation(
            name="exam", owner_id=cluster.ada.user_id, project_id=lease.project_id, node_id=cluster.node_id,
            gpu_count=1, cpus_millis=1000, memory_bytes=0, starts_at=moment, ends_at=moment + timedelta(hours=1),
        )  # fmt: skip
        session.add(booked)
        session.flush()
        session.execute(sa.update(Lease).values(reservation_id=booked.id))
    written(cluster, placing(placement(cluster, lease, 0)))
    with cluster.sessions() as session:
        assert session.execute(sa.select(Reservation.state)).scalar_one() == ReservationState.USED


def preempting(victim: Lease, by: Lease) -> Plan:
    held = Held(victim.id, 0, 0, [], victim.created_at)
    gives = Yielding(victim.id, victim.name, held, "", victim.priority, victim.created_at)
    return Plan([], [], {by.id: ["it is full"]}, preemptions=[Preemption(gives, waiting(by, priority=1))])


def test_who_gives_way_is_told_for_whom_and_goes_to_rest(cluster: Cluster) -> None:
    victim, by = cluster.run(gpu="1"), cluster.ask(gpu="8", name="urgent")
    written(cluster, preempting(victim, by))
    stopping = cluster.lease(victim.id)
    assert (stopping.state, stopping.goal) == ("stopping", "suspended")
    assert (stopping.reason, stopping.suspend_reason) == (None, "preempted")
    assert stopping.message == "it gives way to urgent (priority high)"
    event = events(cluster, victim)[-1]
    assert (event.kind, event.actor) == ("lease.stopping", "planner")
    assert event.data == {"for": str(by.id), "name": "urgent", "reclaimed": "preempted"}
    before = len(events(cluster, victim))
    written(cluster, preempting(victim, by))
    assert len(events(cluster, victim)) == before


def test_who_has_left_already_needs_not_give_way(cluster: Cluster) -> None:
    victim, by = cluster.run(gpu="1"), cluster.ask(gpu="8")
    cluster.release(victim.id)
    written(cluster, preempting(victim, by))
    stopping = cluster.lease(victim.id)
    assert (stopping.goal, stopping.reason, stopping.suspend_reason) == ("ended", "released", None)


def order(cluster: Cluster) -> list[UUID]:
    """As people see it."""
    with cluster.sessions() as session:
        return list(
            session.execute(
                sa.select(Lease.id).where(Lease.state == "queued").order_by(*views.IN_ORDER)
            ).scalars()
        )


def ordering(*found: Lease) -> Plan:
    return Plan([], [], {lease.id: ["it is full"] for lease in found}, order=[lease.id for lease in found])


def test_the_order_of_service_is_written_down_and_moves_no_more_rows_than_it_must(cluster: Cluster) -> None:
    first, second, third = (cluster.ask() for _ in range(3))
    for wanted in ([third, first, second], [first, second, third], [first, third, second]):
        written(cluster, ordering(*wanted))
        assert order(cluster) == [lease.id for lease in wanted]
    standing = versions(cluster, [first, third, second])
    newest = cluster.ask()
    assert order(cluster)[-1] == newest.id
    written(cluster, ordering(first, third, second, newest))
    assert order(cluster) == [lease.id for lease in (first, third, second, newest)]
    assert versions(cluster, [first, third, second]) == standing
    written(cluster, ordering(newest, first, third, second))
    assert order(cluster) == [lease.id for lease in (newest, first, third, second)]


def test_who_may_not_be_tried_again_yet_keeps_its_standing(cluster: Cluster) -> None:
    first, second, third = (cluster.ask() for _ in range(3))
    written(cluster, ordering(third, second, first))
    written(cluster, ordering(third, first))
    assert order(cluster) == [third.id, second.id, first.id]


def test_a_forecast_is_written_when_it_is_news(cluster: Cluster) -> None:
    lease = cluster.ask()
    with cluster.sessions() as session:
        start = now(session)

    def told(expected: datetime | None, latest: datetime | None, said: str = "full") -> Lease:
        written(
            cluster,
            Plan([], [], {lease.id: [said]}, expected={lease.id: expected}, latest={lease.id: latest}),
        )
        return cluster.lease(lease.id)

    row = told(start, None)
    assert (row.expected_start, row.latest_start, row.blockers) == (start, None, ["full"])
    slipped = start + timedelta(seconds=20)
    before = versions(cluster, [lease])
    assert told(slipped, None).expected_start == start
    assert versions(cluster, [lease]) == before
    row = told(slipped, start)
    assert (row.expected_start, row.latest_start) == (start, start)
    moved = start + timedelta(seconds=40)
    row = told(moved, slipped)
    assert (row.expected_start, row.latest_start) == (moved, start)
    row = told(None, None, "still full")
    assert (row.expected_start, row.latest_start, row.blockers) == (None, None, ["still full"])
