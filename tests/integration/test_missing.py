"""An engine that is up before its disk is mounted: nobody's work is taken for lost because of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.model import Counting, Lease, Node, Run
from leasing.service import views
from scheduler.clock import Clock
from scheduler.reconcile import nodes, usage
from tests.integration.test_workspace_ends import used
from tests.integration.test_workspaces import row, volume
from tests.integration.test_workspaces import sweep as sweep_workspaces
from tests.support.cluster import Cluster, node_of
from tests.support.resting import (
    FILE,
    events_of,
    find,
    held,
    kept_image,
    name,
    on_engine,
    resume,
    suspend,
    suspended,
    sweep,
)

SAID = "its engine was started anew and does not know its container; it is lost unless that is back by"


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


def restart(cluster: Cluster, *, mounted: bool) -> Node:
    """With a look of the scheduler at it before and after."""
    cluster.compare()
    cluster.driver.restart_engine(mounted=mounted)
    return probe(cluster)


def probe(cluster: Cluster) -> Node:
    nodes.run_once(cluster.sessions, cluster.fleet)
    with cluster.sessions() as session:
        return node_of(session)


def patience_is_over(cluster: Cluster) -> None:
    with cluster.sessions.begin() as session:
        long_ago = now(session) - timedelta(seconds=cluster.settings.missing_seconds)
        session.execute(sa.update(Node).values(engine_since=long_ago))


def compared_at(cluster: Cluster) -> datetime | None:
    with cluster.sessions() as session:
        return session.execute(sa.select(Counting.compared_at)).scalar_one()


def lost(cluster: Cluster, *leases: Lease) -> None:
    """Their disk was away for longer than is waited for, and is there again."""
    restart(cluster, mounted=False)
    patience_is_over(cluster)
    cluster.compare()
    for lease in leases:
        assert cluster.lease(lease.id).reason == "lost"
    restart(cluster, mounted=True)


def found(cluster: Cluster, lease: Lease) -> list[str]:
    """What its events say of that."""
    return [message for kind, message in events_of(cluster, lease) if kind == "lease.found"]


def work_again(cluster: Cluster) -> None:
    """Whatever was put off is tried now."""
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(retry_at=None))
    cluster.work()


def test_a_lease_whose_container_is_missing_is_waited_for_and_goes_on(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1")
    cluster.driver.write_file(name(cluster, lease, 1), FILE, b"weights")
    restart(cluster, mounted=False)
    for _ in range(3):
        cluster.compare()
    missing = cluster.lease(lease.id)
    assert (missing.state, missing.message.startswith(SAID)) == ("running", True)
    assert [kind for kind, _ in events_of(cluster, lease)].count("lease.missing") == 1
    with cluster.sessions() as session:
        assert "does not know its container" in views.why(session, missing, now=now(session)).summary

    node = probe(cluster)
    assert node.health == "unreachable"
    assert node.health_reason.endswith("the containers of a lease: is its disk mounted?")
    later = cluster.ask()
    cluster.plan()
    waits = cluster.lease(later.id)
    assert waits.state == "queued", "nothing new is started on an empty disk"
    assert "is its disk mounted?" in waits.blockers[0]

    restart(cluster, mounted=True)
    assert cluster.compare() == 1
    cluster.work()
    back = cluster.lease(lease.id)
    assert (back.state, back.message) == ("running", "")
    assert cluster.driver.file(name(cluster, lease, 1), FILE) == b"weights"
    assert probe(cluster).health == "ready"
    cluster.plan()
    cluster.work()
    assert cluster.lease(later.id).state == "running"


def test_it_is_lost_once_it_was_waited_for_in_vain(cluster: Cluster) -> None:
    usage.run_once(cluster.sessions, Clock(cluster.sessions))
    lease = cluster.run(gpu="1")
    restart(cluster, mounted=False)
    seen = compared_at(cluster)
    cluster.compare()
    assert compared_at(cluster) == seen, "nobody can say that it runs"
    patience_is_over(cluster)
    assert cluster.compare() == 1
    over = cluster.lease(lease.id)
    assert (over.state, over.reason) == ("ended", "lost")
    assert held(cluster) == (0, 0)
    with cluster.sessions() as session:
        run = session.execute(sa.select(Run)).scalar_one()
        assert run.stopped_at is not None
        assert seen is not None
        assert run.stopped_at <= max(seen, run.started_at or seen), "what nobody saw is not counted as used"
    assert probe(cluster).health == "ready"


def test_patience_begins_with_each_life_of_the_engine_and_not_with_the_scheduler_s(cluster: Cluster) -> None:
    cluster.run()
    begun = restart(cluster, mounted=False).engine_since
    assert probe(cluster).engine_since == begun, "another scheduler, the same life"
    patience_is_over(cluster)
    cluster.driver.restart_engine(mounted=False)
    again = probe(cluster).engine_since
    assert begun is not None
    assert again is not None
    assert again > begun
    cluster.driver.restart_engine(mounted=False)
    patience_is_over(cluster)
    cluster.compare()
    with cluster.sessions() as session:
        states = session.execute(sa.select(Lease.state)).scalars().all()
    assert states == ["running"], "a life that nobody has noted yet has only begun"


def test_one_that_runs_on_unseen_is_as_before_once_it_is_found(cluster: Cluster) -> None:
    """Containers outlive an engine's start where it is told so, and then its epoch is the old one again."""
    lease = cluster.run()
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Run).values(missing_since=now(session)))
        session.execute(sa.update(Lease).values(message=SAID))
    assert probe(cluster).health == "unreachable"
    cluster.compare()
    assert cluster.lease(lease.id).message == ""
    assert probe(cluster).health == "ready"


def test_a_suspension_waits_for_the_container_that_it_is_to_keep(cluster: Cluster) -> None:
    lease = cluster.run()
    cluster.driver.write_file(name(cluster, lease, 1), FILE, b"weights")
    restart(cluster, mounted=False)
    suspend(cluster, lease)
    cluster.work()
    waits = cluster.lease(lease.id)
    assert waits.state == "stopping"
    assert "that is waited for until" in waits.progress
    restart(cluster, mounted=True)
    work_again(cluster)
    assert cluster.lease(lease.id).state == "suspended"
    assert cluster.driver.file(name(cluster, lease, 1), FILE) == b"weights"


def test_files_that_are_kept_are_waited_for_by_who_goes_on_with_them(cluster: Cluster) -> None:
    leases = [suspended(cluster), suspended(cluster)]
    restart(cluster, mounted=False)
    for lease in leases:
        resume(cluster, lease)
    cluster.plan()
    for _ in range(cluster.settings.start_attempts + 1):
        work_again(cluster)
    for lease in leases:
        waits = cluster.lease(lease.id)
        assert (waits.state, waits.attempts) == ("starting", 0)
        assert "with its files is gone. Its engine was started anew" in waits.progress
    restart(cluster, mounted=True)
    cluster.driver.forget(name(cluster, leases[1], 1))
    work_again(cluster)
    assert cluster.driver.file(name(cluster, leases[0], 2), FILE) == b"weights"
    assert cluster.lease(leases[1].id).state == "starting"
    patience_is_over(cluster)
    work_again(cluster)
    over = cluster.lease(leases[1].id)
    assert (over.state, over.reason) == ("ended", "lost")


def test_a_workspace_is_waited_for_and_deleted_only_where_it_lies(cluster: Cluster) -> None:
    kept, doomed = used(cluster, "kept"), used(cluster, "doomed")
    lease = cluster.ask(workspace="kept")
    with cluster.sessions.begin() as session:
        session.execute(sa.text("UPDATE workspace SET deleted_at = now() WHERE id = :id"), {"id": doomed})
    restart(cluster, mounted=False)
    sweep_workspaces(cluster)
    assert row(cluster, doomed).removed_at is None
    cluster.plan()
    cluster.driver.knobs.registry[lease.image] = None
    for _ in range(cluster.settings.start_attempts + 1):
        work_again(cluster)
    assert cluster.lease(lease.id).state == "starting"
    restart(cluster, mounted=True)
    work_again(cluster)
    assert cluster.lease(lease.id).state == "running"
    sweep_workspaces(cluster)
    assert row(cluster, doomed).removed_at is not None
    assert cluster.driver.volumes(cluster.installation) == [volume(cluster, kept)]


def test_a_workspace_that_does_not_come_back_fails_its_lease(cluster: Cluster) -> None:
    used(cluster, "data")
    lease = cluster.ask(workspace="data")
    restart(cluster, mounted=False)
    cluster.plan()
    cluster.driver.knobs.registry[lease.image] = None
    patience_is_over(cluster)
    cluster.work_through_every_try()
    over = cluster.lease(lease.id)
    assert (over.state, over.reason) == ("ended", "failed")
    assert "is not on its node any more" in over.message


def test_what_is_found_of_a_lost_lease_stays_stopped_and_is_told_of_once(cluster: Cluster) -> None:
    """The whole of a night without the disk: neither the container nor the image that it was made from goes."""
    lease = suspended(cluster)
    resume(cluster, lease)
    cluster.plan()
    cluster.work()
    box, image = name(cluster, lease, 2), kept_image(cluster, lease, 2)
    lost(cluster, lease)
    cluster.driver.start(box)  # by whoever mounted it: its device may be somebody else's by now
    with ThreadPoolExecutor(2) as pool:
        told = [one.result() for one in [pool.submit(find, cluster) for _ in range(2)]]
    assert sorted(told) == [[], [box]]
    sweep(cluster)
    assert on_engine(cluster) == ([(box, "exited")], [], [image])
    assert cluster.driver.file(box, FILE) == b"weights"
    (said,) = found(cluster, lease)
    over = cluster.lease(lease.id)
    assert over.ended_at is not None
    assert said == (
        f"its container {box} is on node local again: it is stopped, and kept until "
        f"{over.ended_at + timedelta(days=7):%Y-%m-%d %H:%M} UTC; "
        f"its files come out there by: docker cp {box}:/home/lease ."
    )
    cluster.driver.forget(box)
    sweep(cluster)
    assert on_engine(cluster) == ([], [], [image]), "it has the files of its last suspension"
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(ended_at=now(session) - timedelta(days=7)))
    sweep(cluster)
    assert on_engine(cluster) == ([], [], [])


def test_what_is_found_goes_once_it_was_kept_for_long_enough(cluster: Cluster) -> None:
    lease, rests = cluster.run(), suspended(cluster)
    lost(cluster, lease)
    with cluster.sessions.begin() as session:
        over = {"state": "ended", "reason": "lost", "ended_at": now(session)}
        session.execute(sa.update(Lease).where(Lease.id == rests.id).values(over))
    sweep(cluster)
    boxes = [(name(cluster, one, 1), "exited") for one in (lease, rests)]
    assert on_engine(cluster) == (boxes, [], [])
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(ended_at=now(session) - timedelta(days=7)))
    sweep(cluster)
    assert on_engine(cluster) == ([], [], [])
    assert cluster.lease(rests.id).kept_container is None


def test_what_a_released_lease_left_goes_as_ever(cluster: Cluster) -> None:
    lease = cluster.run()
    restart(cluster, mounted=False)
    cluster.release(lease.id)
    cluster.work()
    assert cluster.lease(lease.id).reason == "released"
    restart(cluster, mounted=True)
    assert name(cluster, lease, 1) in sweep(cluster)
    assert on_engine(cluster) == ([], [], [])
    assert found(cluster, lease) == []
