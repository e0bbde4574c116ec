"""Suspending and resuming: real rows, and an engine in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import now
from leasing.errors import Conflict, DiskFull, Gone, OverQuota
from leasing.model import Allocation, Event, Lease, Run
from leasing.service import transitions
from leasing.settings.limits import LimitSettings
from leasing.states import Cause, Goal, LeaseState, SuspendReason
from scheduler.reclaim import Reclaimer
from scheduler.reconcile import images, kept, nodes, notices
from scheduler.reconcile.orphans import Orphans
from tests.support.cluster import IMAGE, LIMITS, Cluster

FILE = "/home/lease/model"


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


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


def sweep(cluster: Cluster) -> list[str]:
    kept.run_once(cluster.sessions, cluster.driver, cluster.node_id, cluster.installation)
    orphans = Orphans(cluster.sessions, cluster.installation, grace_seconds=0)
    return orphans.run_once(cluster.driver, cluster.node_id)


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
    Reclaimer(cluster.sessions, cluster.settings).run_once()
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


def test_a_fixed_end_stays_even_as_it_was_moved_and_ends_it_while_it_rests(cluster: Cluster) -> None:
    with cluster.sessions() as session:
        end = now(session) + timedelta(hours=5)
    lease = cluster.run(until=end)
    cluster.change(lease.id, lambda _, row, __: setattr(row, "ends_at", end + timedelta(hours=1)))
    suspend(cluster, lease)
    cluster.work()
    resting = cluster.lease(lease.id)
    assert (resting.until, resting.ttl_seconds, resting.ends_at) == (end + timedelta(hours=1), None, None)
    cluster.change(lease.id, lambda _, row, at: setattr(row, "until", at - timedelta(seconds=1)))
    with pytest.raises(Gone, match="had its end meanwhile"):
        resume(cluster, lease)
    Reclaimer(cluster.sessions, cluster.settings).run_once()
    over = cluster.lease(lease.id)
    assert (over.state, over.reason, over.message) == (
        "ended",
        "expired",
        "its time was over before it could go on",
    )
    sweep(cluster)
    assert on_engine(cluster) == ([], [], [])


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
    for _ in range(cluster.settings.start_attempts):
        with cluster.sessions.begin() as session:
            session.execute(sa.update(Lease).values(retry_at=None))
        cluster.work()
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
