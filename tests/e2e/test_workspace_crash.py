"""`kill -9` of the scheduler around removing a deleted workspace; and a real one, from its first to its last use."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from uuid import UUID

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.model import Event, Lease, Workspace
from leasing.service import workspaces
from leasing.settings.scheduler import SchedulerSettings
from leasing.states import LeaseState
from scheduler.reconcile.workspaces import Workspaces
from tests.e2e.test_crash import SLEEP
from tests.support.cluster import Cluster, on_docker
from tests.support.crashing import killed_around
from tests.support.images import BUSYBOX

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with on_docker(database_url, SchedulerSettings(retry_seconds=0.01, stop_grace_seconds=0)) as made:
        yield made
        engine = made.fleet.engine(made.node_id)
        for container in engine.containers(made.installation):
            engine.remove(container.id, network=None)
        for volume in engine.volumes(made.installation):
            engine.remove_volume(volume)


def run(cluster: Cluster, name: str) -> UUID:
    lease = cluster.run(name=name, image=BUSYBOX, cpus="0.1", command=SLEEP, workspace="data")
    assert lease.workspace_id is not None
    return lease.workspace_id


def inside(cluster: Cluster, name: str, script: str) -> str:
    engine = cluster.fleet.engine(cluster.node_id)
    (container,) = (
        one
        for one in engine.containers(cluster.installation)
        if one.labels["leasing.name"] == name and one.running
    )
    ran = engine.run(container.id, ["sh", "-c", script], seconds=20)
    assert ran.exit_code == 0, ran
    return ran.output


def sweep(cluster: Cluster) -> None:
    stage = Workspaces(cluster.sessions, cluster.installation, measure_seconds=600, missing_seconds=600)
    stage.run_once(cluster.fleet.engine(cluster.node_id), cluster.node_id)


def give_up(cluster: Cluster) -> None:
    with cluster.sessions.begin() as session:
        workspaces.delete(session, "data", None, principal=cluster.ada, now=now(session))


def loop_devices(cluster: Cluster) -> int:
    said = subprocess.check_output(["losetup", "--list", "--noheadings", "--output", "BACK-FILE"], text=True)
    return said.count(cluster.installation)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_removal_cut_short_is_finished_once(
    cluster: Cluster, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace_id = run(cluster, "first")
    cluster.release(lease_called(cluster, "first"))
    cluster.work()
    give_up(cluster)
    monkeypatch.setenv("LEASING_SCHEDULER_WORKSPACES_SECONDS", "0.2")
    killed_around(cluster, "remove_volume", when)
    sweep(cluster)
    with cluster.sessions() as session:
        assert session.get_one(Workspace, workspace_id).removed_at is not None
        told = sa.select(sa.func.count(Event.id)).where(Event.kind == "workspace.removed")
        assert session.execute(told).scalar_one() == 1
    assert cluster.fleet.engine(cluster.node_id).volumes(cluster.installation) == []
    assert loop_devices(cluster) == 0


def test_its_files_go_from_lease_to_lease_and_rest_with_it(cluster: Cluster) -> None:
    workspace_id = run(cluster, "first")
    inside(cluster, "first", "echo one > /workspace/file")
    first = lease_called(cluster, "first")
    cluster.suspend(first)
    cluster.work()
    run(cluster, "second")
    assert inside(cluster, "second", "cat /workspace/file; echo two >> /workspace/file; sync") == "one\n"
    sweep(cluster)
    with cluster.sessions() as session:
        found = session.get_one(Workspace, workspace_id)
        assert found.size_bytes is not None
        hard = cluster.fleet.engine(cluster.node_id).probe().disk_quota is not None
        assert found.kind == ("quota" if hard else "volume")
    cluster.release(lease_called(cluster, "second"))
    cluster.work()
    cluster.resume(first)
    cluster.plan()
    cluster.work()
    assert cluster.lease(first).state == LeaseState.RUNNING, cluster.lease(first).message
    assert inside(cluster, "first", "cat /workspace/file") == "one\ntwo\n"


def lease_called(cluster: Cluster, name: str) -> UUID:
    with cluster.sessions() as session:
        return session.execute(
            sa.select(Lease.id).where(Lease.name == name, Lease.state != LeaseState.ENDED)
        ).scalar_one()
