"""`kill -9` of the scheduler around what it does with sandboxes and waiting containers: nothing is given to two, and
nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leasing import names
from leasing.database import now
from leasing.model import Event, Lease, Part, Run, Warm, WarmPool
from leasing.service import parts
from leasing.settings.docker import DockerSettings
from leasing.settings.scheduler import SchedulerSettings
from leasing.settings.warm import WarmSettings
from leasing.states import LeaseState
from scheduler.provision import Images
from scheduler.reconcile.foreseen import Foreseen
from scheduler.reconcile.orphans import Orphans
from scheduler.reconcile.warm import Keeper
from tests.support.cluster import Cluster, on_docker
from tests.support.crashing import killed_around
from tests.support.images import BUSYBOX
from tests.support.stack import until

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]
SAYS = ["sh", "-c", "echo once; exec sleep 600"]


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    settings = SchedulerSettings(retry_seconds=0.01, stop_grace_seconds=0)
    with on_docker(database_url, settings) as made:
        yield made


def killed_keeping(cluster: Cluster, method: str, when: str, *, sandboxes: int) -> None:
    """It was killed there, so long ago that a successor takes it for dead."""
    killed_around(cluster, method, when, warm_sandboxes=sandboxes)
    with cluster.sessions.begin() as session:
        long_ago = now(session) - timedelta(seconds=parts.SILENT_SECONDS + 1)
        session.execute(sa.update(Part).values(seen_at=long_ago))


def keep(cluster: Cluster, sandboxes: int) -> None:
    asked = WarmSettings(sandboxes=sandboxes)
    with cluster.sessions.begin() as session:
        part = parts.join(session, "scheduler")
    keeper = Keeper(
        cluster.sessions, Images(lambda _: None), cluster.installation, part, asked, cluster.settings,
        DockerSettings(), Foreseen(asked),
    )  # fmt: skip
    engine = cluster.fleet.engine(cluster.node_id)
    keeper.run_once(engine, cluster.node_id, engine.probe())


def on_engine(cluster: Cluster) -> tuple[set[str], set[str]]:
    """Its containers and its networks, by the engine's own word."""
    engine = cluster.fleet.engine(cluster.node_id)
    containers = {one.name for one in engine.containers(cluster.installation)}
    return containers, set(engine.networks(cluster.installation))


def named(cluster: Cluster) -> set[str]:
    with cluster.sessions() as session:
        return {
            names.warm(cluster.installation, one) for one in session.execute(sa.select(Warm.id)).scalars()
        }


def check_started_once(cluster: Cluster, lease: Lease) -> None:
    engine = cluster.fleet.engine(cluster.node_id)
    orphans = Orphans(cluster.sessions, cluster.installation, grace_seconds=0, lost_keep_days=7)
    assert orphans.run_once(engine, cluster.node_id) == []
    assert cluster.lease(lease.id).state == "running"
    with cluster.sessions() as session:
        runs = session.execute(
            sa.select(sa.func.count(Event.id)).where(
                Event.lease_id == lease.id, Event.to_state == LeaseState.RUNNING
            )
        ).scalar_one()
        (run,) = session.execute(sa.select(Run).where(Run.lease_id == lease.id)).scalars()
    found = engine.inspect(cluster.container(lease.id))
    assert found is not None
    assert (runs, found.id, found.address) == (1, run.container_id, run.address)
    assert run.warm_id is not None
    assert until(lambda: engine.tail(found.id, 10), what="its output") == "once\n"


@pytest.mark.parametrize(
    ("method", "when"), [("create_network", "after"), ("start", "before"), ("start", "after")]
)
def test_a_sandbox_cut_short_is_replaced_by_a_whole_one(cluster: Cluster, method: str, when: str) -> None:
    killed_keeping(cluster, method, when, sandboxes=1)
    keep(cluster, 1)
    with cluster.sessions() as session:
        (made,) = session.execute(sa.select(Warm)).scalars()
    assert made.state == "ready"
    assert on_engine(cluster) == (named(cluster), named(cluster)), "one whole one, and nothing of the other"


@pytest.mark.parametrize(("method", "when"), [("create_container", "after"), ("start", "after")])
def test_a_start_in_a_sandbox_cut_short_is_finished_in_the_same(
    cluster: Cluster, method: str, when: str
) -> None:
    keep(cluster, 1)
    sandboxes = named(cluster)
    lease = cluster.ask(image=BUSYBOX, cpus="0.1", gpu="0", command=SAYS)
    killed_keeping(cluster, method, when, sandboxes=1)
    cluster.plan()
    cluster.work()
    check_started_once(cluster, lease)
    assert on_engine(cluster) == (sandboxes | {cluster.container(lease.id)}, sandboxes)
    cluster.release(lease.id)
    cluster.work()
    assert on_engine(cluster) == (set(), set())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["rename", "attach_socket"])
def test_a_hand_over_cut_short_is_finished_and_given_to_nobody_else(
    cluster: Cluster, method: str, when: str
) -> None:
    with cluster.sessions.begin() as session:
        session.add(WarmPool(image=BUSYBOX, count=1, cpus_millis=100, memory_bytes=64 * 2**20))
    keep(cluster, 0)
    (network,) = named(cluster)
    first = cluster.ask(image=BUSYBOX, cpus="0.1", gpu="0", command=SAYS)
    killed_keeping(cluster, method, when, sandboxes=0)
    second = cluster.ask(image=BUSYBOX, cpus="0.1", gpu="0", command=SAYS)
    cluster.plan()
    cluster.work()
    check_started_once(cluster, first)
    with cluster.sessions() as session:
        run = session.execute(sa.select(Run).where(Run.lease_id == second.id)).scalar_one()
    assert run.warm_id is None, "the only one has its lease"
    assert on_engine(cluster)[0] == {cluster.container(first.id), cluster.container(second.id)}
    for lease in (first, second):
        cluster.release(lease.id)
    cluster.work()
    assert on_engine(cluster) == (set(), set())
    assert network not in on_engine(cluster)[1]
