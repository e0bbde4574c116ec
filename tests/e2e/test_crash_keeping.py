"""`kill -9` of the scheduler around what a suspension does beside the stop: nothing is lost or left. A real engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from leasing.model import Lease
from leasing.settings.scheduler import SchedulerSettings
from scheduler.reconcile import flattening, kept
from scheduler.reconcile.orphans import Orphans
from tests.support.cluster import Cluster, on_docker
from tests.support.crashing import killed_around
from tests.support.images import BUSYBOX
from tests.support.resting import events_of

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]
FILE = "/home/lease/model"
FLATTENING = (("import_image_from_stream", "after"), ("commit", "after"))


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    settings = SchedulerSettings(retry_seconds=0.01, stop_grace_seconds=0, flatten_after=1)
    with on_docker(database_url, settings) as made:
        yield made


def on_engine(cluster: Cluster) -> tuple[list[str], int]:
    """Its containers, and how many images hold files, nameless ones included; after a sweep."""
    engine = cluster.fleet.engine(cluster.node_id)
    kept.run_once(cluster.sessions, engine, cluster.node_id, cluster.installation, lost_keep_days=7)
    Orphans(cluster.sessions, cluster.installation, grace_seconds=0, lost_keep_days=7).run_once(
        engine, cluster.node_id
    )
    kept.run_once(cluster.sessions, engine, cluster.node_id, cluster.installation, lost_keep_days=7)
    images = [image for image in engine.images() if image.kept_by(cluster.installation)]
    return [one.name for one in engine.containers(cluster.installation)], len(images)


def read(cluster: Cluster, lease: Lease, generation: int, path: str) -> str:
    engine = cluster.fleet.engine(cluster.node_id)
    return engine.run(cluster.container(lease.id, generation), ["cat", path], seconds=10).output


@pytest.mark.parametrize(("method", "when"), FLATTENING)
def test_files_that_were_being_made_one_layer_are_all_there(cluster: Cluster, method: str, when: str) -> None:
    lease = cluster.run(image=BUSYBOX, cpus="0.1", command=["sleep", "600"])
    engine = cluster.fleet.engine(cluster.node_id)
    engine.write_file(cluster.container(lease.id), FILE, b"weights")
    cluster.suspend(lease.id)
    cluster.work()
    killed_around(cluster, method, when, scheduler_flatten_after=1)

    assert on_engine(cluster)[0] == [cluster.container(lease.id)], "what it was made with is gone"
    facts = engine.probe()
    flattening.run_once(
        cluster.sessions, engine, facts, cluster.node_id, cluster.installation, cluster.settings
    )
    assert ("lease.flattened", "its files were made one layer again") in events_of(cluster, lease)
    assert on_engine(cluster) == ([cluster.container(lease.id)], 1)
    cluster.resume(lease.id)
    cluster.plan()
    cluster.work()
    assert cluster.lease(lease.id).state == "running"
    assert read(cluster, lease, 2, FILE) == "weights"
    cluster.release(lease.id)
    cluster.work()
    assert on_engine(cluster) == ([], 0)


def test_its_own_command_is_run_again_by_the_next(cluster: Cluster) -> None:
    save = ["sh", "-c", f"mkdir -p /tmp && echo saved >> {FILE}"]
    lease = cluster.run(image=BUSYBOX, cpus="0.1", command=["sleep", "600"], on_suspend=save)
    cluster.suspend(lease.id)
    killed_around(cluster, "exec_start", "after", scheduler_flatten_after=1)
    cluster.work()
    assert cluster.lease(lease.id).state == "suspended"
    saved = [message for kind, message in events_of(cluster, lease) if kind == "lease.saved"]
    assert len(saved) == 1
    cluster.resume(lease.id)
    cluster.plan()
    cluster.work()
    assert set(read(cluster, lease, 2, FILE).split()) == {"saved"}, "once, or twice"
