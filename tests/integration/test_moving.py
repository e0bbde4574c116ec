"""Leases leave a node that is being drained, and go on with their files on another. Two engines in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.drivers.fake import FakeDriver
from leasing.drivers.protocol import Container
from leasing.errors import DiskFull
from leasing.model import Lease, NodeUsage, Run
from leasing.service import cluster as nodes
from leasing.states import NodeHealth, NodeIntent
from scheduler.fleet import Fleet
from scheduler.reconcile import drains, kept
from scheduler.reconcile.orphans import Orphans
from tests.support.bench import until
from tests.support.cluster import Cluster
from tests.support.resting import FILE, name, on_engine, resume, suspended


@pytest.fixture
def two(database_url: str) -> Iterator[tuple[Cluster, Cluster]]:
    """The same cluster, seen from each of its two nodes."""
    with Cluster.opened(database_url) as one:
        other = FakeDriver()
        fleet = Fleet(one.sessions, lambda _, address: other if address else one.driver)
        with one.sessions.begin() as session:
            node, _ = nodes.register_node(session, "second", driver="fake", address="second")
            node.health, node.intent = NodeHealth.READY, NodeIntent.CORDONED
            session.execute(sa.update(NodeUsage).values(cpus_millis=64_000, memory_bytes=2**38))
            node_id = node.id
        yield replace(one, fleet=fleet), replace(one, fleet=fleet, driver=other, node_id=node_id)
        fleet.close()


def swap(cluster: Cluster, *, draining: str = "local", opened: str = "second") -> None:
    with cluster.sessions.begin() as session:
        nodes.set_node_intent(session, draining, NodeIntent.DRAINING, principal=cluster.ada)
        nodes.set_node_intent(session, opened, NodeIntent.OPEN, principal=cluster.ada)


def sweep(cluster: Cluster) -> None:
    kept.run_once(cluster.sessions, cluster.driver, cluster.node_id, cluster.installation, lost_keep_days=7)
    Orphans(cluster.sessions, cluster.installation, grace_seconds=0, lost_keep_days=7).run_once(
        cluster.driver, cluster.node_id
    )


def where(cluster: Cluster, lease: Lease) -> UUID:
    with cluster.sessions() as session:
        return session.execute(
            sa.select(Run.node_id).where(Run.lease_id == lease.id, Run.released_at.is_(None))
        ).scalar_one()


def start(cluster: Cluster) -> None:
    for _ in range(cluster.settings.start_attempts):
        with cluster.sessions.begin() as session:
            session.execute(sa.update(Lease).values(retry_at=None))
        cluster.plan()
        cluster.work()


def test_what_runs_on_a_drained_node_goes_on_by_itself_on_another(two: tuple[Cluster, Cluster]) -> None:
    first, second = two
    lease = first.run(env={"TOKEN": "t"})
    first.driver.write_file(first.container(lease.id), FILE, b"weights")
    swap(first)
    drains.run_once(first.sessions)
    first.work()
    assert first.lease(lease.id).state == "queued"
    start(first)
    assert (first.lease(lease.id).state, where(first, lease)) == ("running", second.node_id)
    assert second.driver.file(name(second, lease, 2), FILE) == b"weights"
    assert second.driver.spec(name(second, lease, 2)).environment["TOKEN"] == "t"
    for cluster in two:
        sweep(cluster)
    assert on_engine(first) == ([], [], []), "it has left"
    assert on_engine(second)[0] == [(name(second, lease, 2), "running")]


def test_it_is_bound_to_its_node_while_that_is_only_cordoned(two: tuple[Cluster, Cluster]) -> None:
    first, _ = two
    lease = suspended(first, gpu="0")
    swap(first)
    with first.sessions.begin() as session:
        nodes.set_node_intent(session, "local", NodeIntent.CORDONED, principal=first.ada)
    resume(first, lease)
    start(first)
    assert first.lease(lease.id).state == "queued"


@pytest.mark.parametrize("trouble", ["away", "full", "volumes", "gone"])
def test_what_cannot_be_moved_rests_where_it_was(two: tuple[Cluster, Cluster], trouble: str) -> None:
    first, second = two
    lease = suspended(first, gpu="0")
    swap(first)
    resume(first, lease)
    first.plan()
    if trouble == "away":
        first.driver.knobs.down = True
    elif trouble == "full":
        second.driver.knobs.commit_error = DiskFull("The disk is full.")
    elif trouble == "gone":
        first.driver.forget(name(first, lease, 1))
    else:
        real = first.driver.inspect

        def loose(container_id: str) -> Container | None:
            found = real(container_id)
            return replace(found, volumes=("0f" * 32,)) if found is not None else None

        first.driver.inspect = loose  # type: ignore[method-assign]  # for this engine
    start(first)
    found = first.lease(lease.id)
    if trouble == "gone":
        assert (found.state, found.reason) == ("ended", "lost")
        return
    assert (found.state, found.suspend_reason, found.kept_node_id) == ("suspended", "failed", first.node_id)
    assert {"away": "is away", "full": "disk is full", "volumes": "volumes that its image declares"}[
        trouble
    ] in (found.message)
    first.driver.knobs.down = False
    sweep(first)
    sweep(second)
    assert on_engine(second) == ([], [], [])
    assert on_engine(first)[0] == [(name(first, lease, 1), "exited")]


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("method", ["load_image", "create"])
@pytest.mark.parametrize("after", [False, True])
def test_a_worker_that_is_killed_on_the_way_is_followed_by_another(
    two: tuple[Cluster, Cluster], monkeypatch: pytest.MonkeyPatch, method: str, after: bool
) -> None:
    first, second = two
    lease = suspended(first, gpu="0")
    swap(first)
    resume(first, lease)
    first.plan()
    real = getattr(second.driver, method)

    def deadly(*arguments: object, **named: object) -> object:
        if after:
            real(*arguments, **named)
        raise Killed

    monkeypatch.setattr(second.driver, method, deadly)
    killed = first.workers("killed")
    assert killed.dispatch() == 1
    until(lambda: killed.busy == 0)
    assert first.lease(lease.id).claim_owner == "killed"
    monkeypatch.setattr(second.driver, method, real)
    with first.sessions.begin() as session:
        session.execute(sa.update(Lease).values(claim_until=now(session) - timedelta(seconds=1)))
    first.work()
    assert (first.lease(lease.id).state, where(first, lease)) == ("running", second.node_id)
    assert second.driver.file(name(second, lease, 2), FILE) == b"weights"
    for cluster in two:
        sweep(cluster)
    assert on_engine(first) == ([], [], [])
