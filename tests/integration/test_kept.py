"""Files that are kept for leases to go on with: never lost, never forgotten. Real rows, and an engine in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.drivers.protocol import Container
from leasing.errors import DiskFull, DriverError
from leasing.model import Lease, Run
from leasing.reclaim import Rule
from leasing.service import suspension, transitions
from leasing.states import Cause, LeaseState, SuspendReason
from scheduler.reconcile import images, nodes
from tests.support.cluster import IMAGE, Cluster
from tests.support.resting import (
    FILE,
    held,
    kept_image,
    name,
    on_engine,
    resume,
    suspend,
    suspended,
    sweep,
)


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


def test_a_container_that_was_gone_before_it_could_be_kept_is_lost(cluster: Cluster) -> None:
    lease = cluster.run()
    suspend(cluster, lease)
    cluster.driver.forget(cluster.container(lease.id))
    cluster.work()
    over = cluster.lease(lease.id)
    assert (over.state, over.reason) == ("ended", "lost")
    assert "gone before it could be suspended" in over.message
    assert held(cluster) == (0, 0)


def test_files_that_are_gone_are_not_replaced_by_none(cluster: Cluster) -> None:
    lease = suspended(cluster)
    cluster.driver.forget(name(cluster, lease, 1))
    resume(cluster, lease)
    cluster.plan()
    cluster.work()
    over = cluster.lease(lease.id)
    assert (over.state, over.reason) == ("ended", "lost")
    assert "with its files is gone" in over.message
    assert on_engine(cluster) == ([], [], [])


def test_one_that_cannot_go_on_rests_again_with_its_files(cluster: Cluster) -> None:
    lease = suspended(cluster)
    cluster.driver.knobs.commit_error = DiskFull("The disk is full.")
    resume(cluster, lease)
    cluster.plan()
    cluster.work_through_every_try()
    resting = cluster.lease(lease.id)
    assert (resting.state, resting.suspend_reason) == ("suspended", "failed")
    assert "The disk is full." in resting.message
    assert held(cluster) == (0, 0)
    assert on_engine(cluster) == ([(name(cluster, lease, 1), "exited")], [], [])
    assert resting.ttl_seconds == lease.ttl_seconds

    cluster.driver.knobs.commit_error = None
    resume(cluster, lease)
    cluster.plan()
    cluster.work()
    assert cluster.driver.file(name(cluster, lease, 3), FILE) == b"weights"


def test_placed_elsewhere_it_loses_nothing(cluster: Cluster) -> None:
    lease = suspended(cluster)
    resume(cluster, lease)
    cluster.plan()
    cluster.change(lease.id, lambda _, row, __: setattr(row, "kept_node_id", None))
    cluster.work()
    assert cluster.lease(lease.id).state == "suspended"
    assert on_engine(cluster)[0] == [(name(cluster, lease, 1), "exited")]


def test_after_an_engine_restart_it_goes_on_from_its_own_files(cluster: Cluster) -> None:
    lease = suspended(cluster)
    resume(cluster, lease)
    cluster.plan()
    cluster.work()
    cluster.driver.restart_engine()
    cluster.change(
        lease.id,
        lambda session, row, at: transitions.move(
            session,
            row,
            LeaseState.STARTING,
            Cause.RECONCILER,
            now=at,
            actor="reconciler",
            message="restarted",
        ),
    )
    cluster.driver.forget(name(cluster, lease, 2))
    cluster.work()
    assert cluster.lease(lease.id).state == "running"
    assert cluster.driver.file(name(cluster, lease, 2), FILE) == b"weights"


def test_what_an_engine_s_absence_left_is_met_again(cluster: Cluster) -> None:
    lease = suspended(cluster)
    resume(cluster, lease)
    cluster.plan()
    cluster.work()
    suspend(cluster, lease)
    cluster.work()
    cluster.driver.knobs.down = True
    cluster.release(lease.id)
    cluster.driver.knobs.down = False
    assert sweep(cluster) == [], "it is no orphan: the row says that it goes"
    assert on_engine(cluster) == ([], [], [])
    assert cluster.lease(lease.id).kept_container is None


def test_kept_files_make_no_room_and_are_nobody_else_s_image(cluster: Cluster) -> None:
    lease = suspended(cluster)
    resume(cluster, lease)
    cluster.plan()
    cluster.work()
    suspend(cluster, lease)
    cluster.work()
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Run).values(released_at=now(session) - timedelta(days=30)))
    cluster.driver.knobs.disk_free_bytes = 0
    facts = cluster.driver.probe()
    cluster.driver.forget(name(cluster, lease, 2))  # nothing uses it any more, as far as the engine knows
    removed = images.run_once(cluster.sessions, cluster.driver, facts, cluster.node_id, cluster.settings)
    assert f"sha256:{IMAGE}" in removed
    assert on_engine(cluster)[2] == [kept_image(cluster, lease, 2)]

    answered = nodes.run_once(cluster.sessions, cluster.fleet)
    assert cluster.node_id in answered
    with cluster.sessions() as session:
        stolen = kept_image(cluster, lease, 2)
        assert stolen not in str(session.execute(sa.text("SELECT engine FROM node")).scalar_one())
    cluster.driver.knobs.disk_free_bytes = None
    nodes.run_once(cluster.sessions, cluster.fleet)
    thief = cluster.ask(image=stolen)
    cluster.plan()
    cluster.work()
    over = cluster.lease(thief.id)
    assert (over.state, over.reason) == ("ended", "failed")
    assert "it holds the files of a lease" in over.message


def test_giving_back_a_lease_that_has_run_is_no_cancelling(cluster: Cluster) -> None:
    lease = suspended(cluster)
    resume(cluster, lease)
    cluster.release(lease.id)
    over = cluster.lease(lease.id)
    assert (over.reason, over.message) == ("released", "ada released it")


def started_anew(cluster: Cluster, lease: Lease) -> None:
    """As after its engine's restart."""
    cluster.driver.restart_engine()
    cluster.change(
        lease.id,
        lambda session, row, at: transitions.move(
            session, row, LeaseState.STARTING, Cause.RECONCILER, now=at, actor="reconciler", message="restarted",
        ),
    )  # fmt: skip


def test_one_that_ran_and_cannot_start_again_rests_with_its_files(cluster: Cluster) -> None:
    """As on a machine whose Docker Engine is up before its NVIDIA driver."""
    lease = cluster.run()
    cluster.driver.write_file(name(cluster, lease, 1), FILE, b"weights")
    started_anew(cluster, lease)
    cluster.driver.knobs.start_error = DriverError("The driver is not loaded.")
    cluster.work_through_every_try()
    resting = cluster.lease(lease.id)
    assert (resting.state, resting.suspend_reason) == ("suspended", "failed")
    assert "is not loaded. Its files are kept." in resting.message
    assert held(cluster) == (0, 0)
    cluster.driver.knobs.start_error = None
    resume(cluster, lease)
    cluster.plan()
    cluster.work()
    assert cluster.driver.file(name(cluster, lease, 2), FILE) == b"weights"


def test_one_that_ran_starts_again_although_its_image_cannot_be_had_any_more(cluster: Cluster) -> None:
    lease = cluster.run()
    cluster.driver.write_file(name(cluster, lease, 1), FILE, b"weights")
    started_anew(cluster, lease)
    cluster.change(lease.id, lambda _, row, __: setattr(row, "image", "nosuch.example/x:1"))
    cluster.work()
    assert cluster.lease(lease.id).state == "running"
    assert cluster.driver.file(name(cluster, lease, 1), FILE) == b"weights"


def test_a_start_that_comes_after_a_suspension_leaves_the_files(cluster: Cluster) -> None:
    """A worker was slow; meanwhile others took its claim, and suspended the lease."""
    lease = cluster.run()
    container = name(cluster, lease, 1)
    cluster.driver.write_file(container, FILE, b"weights")
    started_anew(cluster, lease)
    begun = threading.Event()
    go_on = threading.Event()
    start = cluster.driver.start

    def slow(container_id: str) -> Container:
        begun.set()
        assert go_on.wait(20)
        return start(container_id)

    cluster.driver.start = slow  # type: ignore[method-assign]  # no knob holds a start back
    late = cluster.workers("late")
    late.dispatch()
    assert begun.wait(20)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(claim_until=now(session) - timedelta(seconds=1)))
    cluster.change(
        lease.id,
        lambda session, row, at: suspension.take_back(
            session,
            row,
            SuspendReason.EXPIRED,
            rule=Rule(),
            now=at,
            actor="test",
            message="its time was over",
        ),
    )
    cluster.work()
    assert cluster.lease(lease.id).state == "suspended"
    go_on.set()
    cluster.work(late)
    late.stop()
    assert on_engine(cluster)[0] == [(container, "exited")]
    assert cluster.driver.file(container, FILE) == b"weights"
