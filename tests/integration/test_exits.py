"""A command that ends by itself is noticed by the engine's event, not only by the next comparison."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from scheduler.reconcile.follow import Follower
from tests.support.cluster import Cluster, on_docker
from tests.support.images import BUSYBOX

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with on_docker(database_url) as made:
        yield made


def test_each_exit_is_seen_by_the_first_look_after_its_event(cluster: Cluster) -> None:
    """The engine tells of a death before its own listing shows it."""
    engine = cluster.fleet.engine(cluster.node_id)
    woken = threading.Event()
    follower = Follower(engine, cluster.node_id, cluster.installation, woken.set)
    follower.start()
    try:
        for code in (0, 3, 0, 3):
            woken.clear()
            lease = cluster.run(image=BUSYBOX, cpus="0.1", command=["sh", "-c", f"sleep 1; exit {code}"])
            deadline = time.monotonic() + 20
            while cluster.lease(lease.id).state == "running":
                assert woken.wait(deadline - time.monotonic()), "no event came, or what it told was not seen"
                woken.clear()
                cluster.compare(follower.ended())
            cluster.work()
            ended = cluster.lease(lease.id)
            assert (ended.state, ended.exit_code) == ("ended", code)
    finally:
        follower.stop()
