"""Suspending and resuming: real rows, and an engine in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.errors import Conflict, Gone, OverQuota
from leasing.model import Lease
from leasing.settings.limits import LimitSettings
from scheduler.clock import Clock
from scheduler.reclaim import Reclaimer
from scheduler.reconcile import notices
from tests.support.cluster import LIMITS, Cluster
from tests.support.resting import (
    FILE,
    events_of,
    happened,
    held,
    kept_image,
    name,
    on_engine,
    preempt,
    resume,
    suspend,
    suspended,
    sweep,
)


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


def test_a_suspended_lease_holds_its_files_and_nothing_else(cluster: Cluster) -> None:
    lease = suspended(cluster)
    assert held(cluster) == (0, 0)
    assert on_engine(cluster) == ([(name(cluster, lease, 1), "exited")], [], [])
    assert (lease.reason, lease.suspend_reason, lease.message) == (None, "asked", "ada suspended it")
    assert (lease.kept_node_id, lease.kept_container) == (cluster.node_id, name(cluster, lease, 1))
    assert sweep(cluster) == [], "it has its owner"


def test_it_goes_on_where_it_was_in_a_new_container(cluster: Cluster) -> None:
    lease = suspended(cluster, env={"TOKEN": "t"})
    other = cluster.run(gpu="1")
    queued = resume(cluster, lease)
    assert (queued.state, queued.arrival) == ("queued", lease.arrival)
    cluster.plan()
    cluster.work()
    running = cluster.lease(lease.id)
    assert (running.state, running.suspend_reason, running.suspended_at, running.message) == (
        "running",
        None,
        None,
        "",
    )
    now_in = name(cluster, lease, 2)
    assert cluster.driver.file(now_in, FILE) == b"weights"
    spec = cluster.driver.spec(now_in)
    assert (spec.environment["TOKEN"], spec.image) == ("t", kept_image(cluster, lease, 2))
    assert sorted(on_engine(cluster)[0]) == sorted(
        [(name(cluster, other, 1), "running"), (now_in, "running")]
    ), "the container before it is gone"
    assert len(on_engine(cluster)[1]) == 2
    assert on_engine(cluster)[2] == [kept_image(cluster, lease, 2)]
    assert (running.kept_container, running.kept_node_id) == (None, None)
    assert sweep(cluster) == []
    assert on_engine(cluster)[2] == [kept_image(cluster, lease, 2)], "its container is made from it"


def test_again_and_again_it_keeps_one_container_and_one_image(cluster: Cluster) -> None:
    lease = suspended(cluster)
    for generation in (2, 3, 4):
        resume(cluster, lease)
        cluster.plan()
        cluster.work()
        assert cluster.driver.file(name(cluster, lease, generation), FILE) == b"weights"
        suspend(cluster, lease)
        cluster.work()
        containers, networks, tags = on_engine(cluster)
        assert containers == [(name(cluster, lease, generation), "exited")]
        assert (networks, tags) == ([], [kept_image(cluster, lease, generation)])
    cluster.release(lease.id)
    assert cluster.lease(lease.id).reason == "released"
    sweep(cluster)
    assert on_engine(cluster) == ([], [], [])


def test_what_gives_way_queues_again_by_itself_and_goes_on(cluster: Cluster) -> None:
    lease = cluster.run(gpu="2", preemptible=True, wait=False)
    cluster.driver.write_file(cluster.container(lease.id), FILE, b"weights")
    preempt(cluster, lease)
    big = cluster.ask(gpu="1", name="big")
    cluster.work()
    waiting = cluster.lease(lease.id)
    assert (waiting.state, waiting.suspend_reason, waiting.message) == (
        "queued",
        "preempted",
        "it gives way to big",
    )
    assert waiting.wait, "whoever gave way is not refused for lack of room"
    assert happened(cluster, lease)[-3:] == [
        ("stopping", "planner"), ("suspended", "stopper"), ("queued", "stopper"),
    ]  # fmt: skip
    with cluster.sessions.begin() as session:
        session.execute(
            sa.update(Lease).where(Lease.id == lease.id).values(retry_at=now(session) + timedelta(hours=1))
        )
    cluster.plan()
    cluster.work()
    assert cluster.lease(big.id).state == "running"
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).where(Lease.id == lease.id).values(retry_at=None))
    cluster.plan()
    cluster.work()
    assert cluster.lease(lease.id).state == "queued"
    assert sweep(cluster) == [], "what it will go on from has its owner while it waits"
    cluster.release(big.id)
    cluster.work()
    cluster.plan()
    cluster.work()
    assert cluster.lease(lease.id).state == "running"
    assert cluster.driver.file(name(cluster, lease, 2), FILE) == b"weights"


def test_the_time_it_has_left_waits_with_it(cluster: Cluster) -> None:
    lease = cluster.run(ttl="2h")
    with cluster.sessions.begin() as session:
        moment = now(session)
        session.execute(
            sa.update(Lease).values(
                started_at=moment - timedelta(minutes=90), ends_at=moment + timedelta(minutes=30)
            )
        )
    suspend(cluster, lease)
    cluster.work()
    resting = cluster.lease(lease.id)
    assert resting.ends_at is None
    assert resting.ttl_seconds is not None
    assert 29 * 60 < resting.ttl_seconds <= 30 * 60
    Reclaimer(cluster.sessions, Clock(cluster.sessions), cluster.settings).run_once()
    resume(cluster, lease)
    cluster.plan()
    cluster.work()
    running = cluster.lease(lease.id)
    assert running.started_at == moment - timedelta(minutes=90)
    with cluster.sessions() as session:
        assert running.ends_at is not None
        left = running.ends_at - now(session)
    assert timedelta(minutes=29) < left <= timedelta(minutes=30)
    notices.run_once(cluster.sessions, cluster.fleet, cluster.installation)
    told = cluster.driver.file(name(cluster, lease, 2), "/run/lease/info.json")
    assert told is not None
    assert running.ends_at.isoformat().encode() in told


def test_at_the_very_end_of_its_time_it_keeps_a_minute(cluster: Cluster) -> None:
    lease = cluster.run(ttl="2h")
    suspend(cluster, lease)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(ends_at=now(session)))
    cluster.work()
    assert cluster.lease(lease.id).ttl_seconds == 60


def test_a_fixed_end_stays_even_as_it_was_moved_and_passes_while_it_rests(cluster: Cluster) -> None:
    with cluster.sessions() as session:
        end = now(session) + timedelta(hours=5)
    lease = cluster.run(until=end)
    cluster.change(lease.id, lambda _, row, __: setattr(row, "ends_at", end + timedelta(hours=1)))
    suspend(cluster, lease)
    cluster.work()
    resting = cluster.lease(lease.id)
    assert (resting.until, resting.ttl_seconds, resting.ends_at) == (end + timedelta(hours=1), None, None)
    cluster.change(lease.id, lambda _, row, at: setattr(row, "until", at - timedelta(seconds=1)))
    for _ in range(2):
        Reclaimer(cluster.sessions, Clock(cluster.sessions), cluster.settings).run_once()
    over = cluster.lease(lease.id)
    assert (over.state, over.suspend_reason, over.ttl_seconds, over.until) == (
        "suspended",
        "expired",
        0,
        None,
    )
    assert over.message == "its time was over while it rested"
    assert [kind for kind, _ in events_of(cluster, lease)].count("lease.expired") == 1, "said once"
    assert resume(cluster, lease).ttl_seconds == LIMITS.default_ttl_seconds, "a fixed end comes only once"


def test_only_what_runs_has_files_to_keep(cluster: Cluster) -> None:
    lease = cluster.ask()
    with pytest.raises(Conflict, match="it has no files to keep yet"):
        suspend(cluster, lease)
    cluster.plan()
    with pytest.raises(Conflict):
        suspend(cluster, lease)
    cluster.work()
    assert suspend(cluster, lease).state == "stopping"
    assert suspend(cluster, lease).state == "stopping", "twice is once"
    with pytest.raises(Conflict, match="still being stopped"):
        resume(cluster, lease)
    cluster.work()
    assert suspend(cluster, lease).state == "suspended"
    cluster.release(lease.id)
    for act in (suspend, resume):
        with pytest.raises(Gone, match="ada released it"):
            act(cluster, lease)


def test_what_waits_to_go_on_can_be_put_to_rest(cluster: Cluster) -> None:
    lease = cluster.run(preemptible=True)
    preempt(cluster, lease)
    cluster.work()
    assert suspend(cluster, lease).state == "suspended"
    cluster.plan()
    cluster.work()
    assert cluster.lease(lease.id).state == "suspended"
    assert resume(cluster, lease).state == "queued"
    assert resume(cluster, lease).state == "queued", "twice is once"


def test_what_gives_way_can_be_put_to_rest_while_it_stops(cluster: Cluster) -> None:
    lease = cluster.run(preemptible=True)
    preempt(cluster, lease)
    suspend(cluster, lease)
    cluster.work()
    found = cluster.lease(lease.id)
    assert (found.state, found.suspend_reason) == ("suspended", "asked")


def test_going_on_meets_the_quota_that_asking_does(cluster: Cluster) -> None:
    lease = suspended(cluster)
    cluster.run(gpu="1")
    with pytest.raises(OverQuota):
        resume(cluster, lease, LimitSettings(devices_per_user=1))
    assert cluster.lease(lease.id).state == "suspended"


def test_a_lease_released_while_it_is_being_suspended_ends(cluster: Cluster) -> None:
    lease = cluster.run()
    suspend(cluster, lease)
    cluster.release(lease.id)
    cluster.work()
    over = cluster.lease(lease.id)
    assert (over.state, over.reason, over.message) == ("ended", "released", "ada released it")
    assert on_engine(cluster) == ([], [], [])
