"""An engine that runs out of disk: nothing more is started there, and images nobody needs make room."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.drivers.docker import DockerDriver
from leasing.model import Run
from leasing.service import views
from leasing.settings.docker import DockerSettings
from scheduler.reconcile import images, nodes
from tests.support.cluster import IMAGE, Cluster
from tests.support.images import BUSYBOX, ensure_busybox

GIB = 2**30


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url) as made:
        yield made


def probe(cluster: Cluster, *, free: int | None) -> None:
    cluster.driver.knobs.disk_free_bytes = free
    nodes.run_once(cluster.sessions, cluster.fleet)


def make_room(cluster: Cluster) -> list[str]:
    return images.run_once(
        cluster.sessions, cluster.driver, cluster.driver.probe(), cluster.node_id, cluster.settings
    )


def last_used(cluster: Cluster, lease_id: object, *, hours: int) -> None:
    with cluster.sessions.begin() as session:
        session.execute(
            sa.update(Run)
            .where(Run.lease_id == lease_id)
            .values(released_at=now(session) - timedelta(hours=hours))
        )


def test_a_full_disk_keeps_leases_waiting_and_says_so(cluster: Cluster) -> None:
    probe(cluster, free=1 * GIB)
    lease = cluster.ask()
    cluster.plan()
    assert cluster.lease(lease.id).state == "queued"
    with cluster.sessions() as session:
        why = views.why(session, cluster.lease(lease.id), now=now(session))
    assert "has only 1G of disk left, under the reserve of 2G" in str(why.model_dump())

    probe(cluster, free=50 * GIB)
    cluster.plan()
    cluster.work()
    assert cluster.lease(lease.id).state == "running"


def test_an_engine_that_cannot_tell_its_disk_is_not_taken_for_full(cluster: Cluster) -> None:
    probe(cluster, free=None)
    assert cluster.run().state == "running"
    assert make_room(cluster) == []


def test_images_make_room_only_when_it_is_needed_and_only_those_unused_for_long(cluster: Cluster) -> None:
    for name in ("old:1", "recent:1", "used:1"):
        cluster.driver.knobs.registry[name] = None  # anybody may pull it
    old, recent = cluster.run(image="old:1"), cluster.run(image="recent:1")
    cluster.run(image="used:1")
    for lease in (old, recent):
        cluster.release(lease.id)
    cluster.work()
    last_used(cluster, old.id, hours=100)
    last_used(cluster, recent.id, hours=1)

    probe(cluster, free=50 * GIB)
    assert make_room(cluster) == []
    probe(cluster, free=1 * GIB)
    (gone,) = make_room(cluster)
    assert cluster.driver.find_image("old:1") is None
    assert cluster.driver.find_image("recent:1") is not None
    assert cluster.driver.find_image("used:1") is not None
    assert cluster.driver.find_image(IMAGE) is not None, "no lease ever brought it"
    assert gone.startswith("sha256:")


@pytest.mark.docker
@pytest.mark.xdist_group("docker")
def test_a_real_engine_refuses_to_remove_what_a_container_of_anybody_s_uses() -> None:
    ensure_busybox()
    driver = DockerDriver("", DockerSettings())
    image = driver.find_image(BUSYBOX)
    assert image is not None
    with driver._connection.call() as client:
        container = client.create_container(BUSYBOX, command=["true"], labels={"leasing-test": "disk"})["Id"]
    try:
        assert driver.remove_image(image.id) is False
        assert driver.find_image(BUSYBOX) is not None
    finally:
        driver.remove(container, network=None)
        driver.close()
