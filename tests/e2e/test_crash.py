"""`kill -9` of the scheduler before and after each thing it does to a real engine: its successor finishes the work."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from leasing.model import Allocation, Event, Lease, Run
from leasing.settings.scheduler import SchedulerSettings
from leasing.states import LeaseState
from scheduler.reconcile import kept, notices
from scheduler.reconcile.orphans import Orphans
from tests.support.cluster import Cluster, on_docker
from tests.support.crashing import killed_around
from tests.support.images import BUSYBOX

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]
STARTING = ("create_network", "create_container", "put_archive", "start", "inspect_container")
STOPPING = ("stop", "remove_container", "remove_network")
SUSPENDING = ("stop", "remove_network")
GOING_ON = (
    *("commit", "create_network", "create_container", "start", "inspect_container"),
    *("remove_container", "remove_image"),
)
SLEEP = ["sleep", "600"]
FILE = "/home/lease/model"


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with on_docker(
        database_url, SchedulerSettings(retry_seconds=0.01, stop_grace_seconds=0), devices=2
    ) as made:
        yield made


def on_engine(cluster: Cluster) -> tuple[list[tuple[str, str]], list[str]]:
    """Its containers with their states, and its networks, by the engine's own word."""
    engine = cluster.fleet.engine(cluster.node_id)
    containers = engine.containers(cluster.installation)
    return [(one.name, one.state) for one in containers], engine.networks(cluster.installation)


def times(cluster: Cluster, lease: Lease, state: LeaseState) -> int:
    with cluster.sessions() as session:
        return session.execute(
            sa.select(sa.func.count(Event.id)).where(Event.lease_id == lease.id, Event.to_state == state)
        ).scalar_one()


def kept_on_engine(cluster: Cluster) -> list[str]:
    """Images that are kept for leases, those without a name included."""
    images = cluster.fleet.engine(cluster.node_id).images()
    return [
        next(iter(image.tags), image.id).rpartition(":")[2]
        for image in images
        if image.kept_by(cluster.installation)
    ]


def rest(cluster: Cluster, lease: Lease, generation: int = 1) -> None:
    """It writes a file of its own, and is suspended."""
    engine = cluster.fleet.engine(cluster.node_id)
    engine.write_file(cluster.container(lease.id, generation), f"{FILE}-{generation}", b"weights")
    cluster.suspend(lease.id)
    cluster.work()
    assert cluster.lease(lease.id).state == "suspended"


def sweep(cluster: Cluster) -> list[str]:
    kept.run_once(
        cluster.sessions,
        cluster.fleet.engine(cluster.node_id),
        cluster.node_id,
        cluster.installation,
        lost_keep_days=7,
    )
    orphans = Orphans(cluster.sessions, cluster.installation, grace_seconds=0, lost_keep_days=7)
    return orphans.run_once(cluster.fleet.engine(cluster.node_id), cluster.node_id)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", STARTING)
def test_a_start_cut_short_is_finished_once(cluster: Cluster, method: str, when: str) -> None:
    lease = cluster.ask(image=BUSYBOX, cpus="0.1", gpu="0", command=SLEEP)
    killed_around(cluster, method, when)

    assert sweep(cluster) == [], "what a start has made so far has its owner"
    cluster.plan()
    cluster.work()
    notices.run_once(cluster.sessions, cluster.fleet, cluster.installation)
    assert cluster.lease(lease.id).state == "running"
    name = cluster.container(lease.id)
    assert on_engine(cluster) == (
        [(name, "running")],
        [f"leasing-{cluster.installation}-{lease.id.hex[:12]}"],
    )
    assert times(cluster, lease, LeaseState.RUNNING) == 1

    cluster.release(lease.id)
    cluster.work()
    assert cluster.lease(lease.id).state == "ended"
    assert on_engine(cluster) == ([], [])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", STARTING[:4])
def test_a_start_cut_short_and_then_released_leaves_nothing(cluster: Cluster, method: str, when: str) -> None:
    lease = cluster.ask(image=BUSYBOX, cpus="0.1", command=SLEEP)
    killed_around(cluster, method, when)
    cluster.release(lease.id)
    cluster.work()
    assert cluster.lease(lease.id).state == "ended"
    sweep(cluster)
    assert on_engine(cluster) == ([], [])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", STOPPING)
def test_a_stop_cut_short_is_finished_once(cluster: Cluster, method: str, when: str) -> None:
    lease = cluster.run(image=BUSYBOX, cpus="0.1", command=SLEEP)
    cluster.release(lease.id)
    killed_around(cluster, method, when)

    cluster.work()
    ended = cluster.lease(lease.id)
    assert (ended.state, ended.reason) == ("ended", "released")
    assert times(cluster, lease, LeaseState.ENDED) == 1
    assert on_engine(cluster) == ([], [])
    with cluster.sessions() as session:
        held = sa.select(sa.func.count(Allocation.id)).where(Allocation.released_at.is_(None))
        runs = sa.select(sa.func.count(Run.id)).where(Run.released_at.is_(None))
        assert (session.execute(held).scalar_one(), session.execute(runs).scalar_one()) == (0, 0)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", SUSPENDING)
def test_a_suspension_cut_short_is_finished_once(cluster: Cluster, method: str, when: str) -> None:
    lease = cluster.run(image=BUSYBOX, cpus="0.1", command=SLEEP)
    cluster.suspend(lease.id)
    killed_around(cluster, method, when)

    assert sweep(cluster) == []
    cluster.work()
    assert cluster.lease(lease.id).state == "suspended"
    assert times(cluster, lease, LeaseState.SUSPENDED) == 1
    assert sweep(cluster) == [], "its files have their owner"
    assert on_engine(cluster) == ([(cluster.container(lease.id), "exited")], [])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", GOING_ON)
def test_a_going_on_cut_short_loses_nothing_and_leaves_nothing(
    cluster: Cluster, method: str, when: str
) -> None:
    """It went on once before, so that there is an image of that time to be removed."""
    lease = cluster.run(image=BUSYBOX, cpus="0.1", command=SLEEP)
    rest(cluster, lease)
    cluster.resume(lease.id)
    cluster.plan()
    cluster.work()
    rest(cluster, lease, 2)
    cluster.resume(lease.id)
    killed_around(cluster, method, when)

    sweep(cluster)
    cluster.plan()
    cluster.work()
    assert cluster.lease(lease.id).state == "running"
    assert times(cluster, lease, LeaseState.RUNNING) == 3
    sweep(cluster)
    now_in = cluster.container(lease.id, 3)
    network = f"leasing-{cluster.installation}-{lease.id.hex[:12]}"
    assert on_engine(cluster) == ([(now_in, "running")], [network])
    assert kept_on_engine(cluster) == ["3"]
    for generation in (1, 2):
        said = subprocess.check_output(["docker", "exec", now_in, "cat", f"{FILE}-{generation}"])
        assert said == b"weights"

    cluster.release(lease.id)
    cluster.work()
    sweep(cluster)
    assert on_engine(cluster) == ([], [])
    assert kept_on_engine(cluster) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", GOING_ON[:4])
def test_a_going_on_cut_short_and_then_released_leaves_nothing(
    cluster: Cluster, method: str, when: str
) -> None:
    lease = cluster.run(image=BUSYBOX, cpus="0.1", command=SLEEP)
    rest(cluster, lease)
    cluster.resume(lease.id)
    killed_around(cluster, method, when)
    cluster.release(lease.id)
    cluster.work()
    assert cluster.lease(lease.id).state == "ended"
    sweep(cluster)
    assert on_engine(cluster) == ([], [])
    assert kept_on_engine(cluster) == []
