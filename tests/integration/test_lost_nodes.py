"""A machine that does not come back is given up: its leases end, its hours are sealed, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.drivers.fake import FakeDriver
from leasing.errors import Conflict, NotFound
from leasing.model import (
    Allocation,
    Counting,
    Event,
    Lease,
    Node,
    NodeUsage,
    Reservation,
    Run,
    RunSpan,
    UsageHour,
    Warm,
)
from leasing.service import cluster as machines
from leasing.service import lost_nodes, workspace_views
from leasing.service.principal import Principal
from leasing.service.used import hour_of
from leasing.states import NodeHealth, NodeIntent, Role
from scheduler.clock import Clock
from scheduler.fleet import Fleet
from scheduler.reconcile import bookings, nodes, usage
from tests.integration.test_kept import started_anew
from tests.integration.test_workspace_ends import used
from tests.integration.test_workspaces import ask, kinds, rm
from tests.support.api import served, token
from tests.support.calendar import book
from tests.support.cluster import Cluster, node_of, user
from tests.support.resting import (
    FILE,
    events_of,
    happened,
    held,
    name,
    on_engine,
    resume,
    suspend,
    suspended,
    sweep,
)
from tests.support.terminal import run


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=4) as made:
        yield made


@pytest.fixture
def root(cluster: Cluster) -> Principal:
    with cluster.sessions.begin() as session:
        return user(session, "root", Role.ADMIN)


def burn(cluster: Cluster) -> None:
    """The machine answers no more, and the scheduler has seen it."""
    cluster.driver.knobs.down = True
    nodes.run_once(cluster.sessions, cluster.fleet)


def give_up(cluster: Cluster, root: Principal, node: str = "local") -> None:
    with cluster.sessions.begin() as session:
        lost_nodes.give_up(session, node, principal=root, now=now(session))


def second(cluster: Cluster) -> Cluster:
    """The same cluster, seen from another machine of it."""
    other = FakeDriver()
    fleet = Fleet(cluster.sessions, lambda _, address: other if address else cluster.driver)
    with cluster.sessions.begin() as session:
        node, _ = machines.register_node(session, "second", driver="fake", address="second")
        node.health = NodeHealth.READY
        room = {"cpus_millis": 64_000, "memory_bytes": 2**38}
        session.execute(sa.update(NodeUsage).where(NodeUsage.node_id == node.id).values(**room))
        return replace(cluster, fleet=fleet, driver=other, node_id=node.id)


def ends(cluster: Cluster, *leases: Lease) -> set[tuple[str, str | None, str]]:
    found = [cluster.lease(lease.id) for lease in leases]
    return {(one.state, one.reason, one.message) for one in found}


def test_whatever_was_there_ends_and_says_who_gave_it_up(cluster: Cluster, root: Principal) -> None:
    running, resting, waiting = cluster.run(gpu="1"), suspended(cluster), suspended(cluster)
    suspending, again = cluster.run(), cluster.run()
    suspend(cluster, suspending)
    resume(cluster, waiting)
    started_anew(cluster, again)
    with cluster.sessions.begin() as session:
        page = machines.nodes(session, now=now(session))
        assert (page.items[0].leases, page.items[0].workspaces) == (5, 0)
        session.add(Warm(node_id=cluster.node_id, role="sandbox"))
    burn(cluster)
    give_up(cluster, root)
    said = "root declared node local lost"
    assert ends(cluster, running, resting, waiting, suspending, again) == {("ended", "lost", said)}
    for lease in (running, resting, waiting, suspending, again):
        assert happened(cluster, lease)[-1] == ("ended", root.actor)
    assert held(cluster) == (0, 0)
    with cluster.sessions() as session:
        node = node_of(session)
        assert (node.health, node.intent, node.health_reason) == ("lost", "cordoned", "root declared it lost")
        assert session.execute(sa.select(sa.func.count()).select_from(Warm)).scalar_one() == 0
        assert session.execute(sa.select(NodeUsage.cpus_used_millis)).scalar_one() == 0
    nodes.run_once(cluster.sessions, cluster.fleet)
    with cluster.sessions() as session:
        assert node_of(session).health == "lost", "silence makes it no less so"


def test_one_that_answers_is_not_lost(cluster: Cluster, root: Principal) -> None:
    lease = cluster.run()
    with pytest.raises(Conflict, match="answers") as caught:
        give_up(cluster, root)
    assert caught.value.hint is not None
    assert "lease admin nodes drain local" in caught.value.hint
    with pytest.raises(NotFound):
        give_up(cluster, root, "nowhere")
    assert cluster.lease(lease.id).state == "running"


def test_twice_and_two_at_once_are_once(cluster: Cluster, root: Principal) -> None:
    lease = cluster.run(gpu="1")
    burn(cluster)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(give_up, cluster, root) for _ in range(2)]:
            done.result()
    give_up(cluster, root)
    assert [kind for kind, _ in events_of(cluster, lease)].count("lease.ended") == 1
    with cluster.sessions() as session:
        told = session.execute(sa.select(sa.func.count()).where(Event.kind == "node.lost")).scalar_one()
    assert told == 1


def test_what_had_nothing_there_yet_is_placed_elsewhere(cluster: Cluster, root: Principal) -> None:
    begun, has_files = cluster.ask(), cluster.ask(workspace="data")
    cluster.plan()
    workers = cluster.workers("late")
    with cluster.sessions.begin() as session:
        jobs = workers.claim(session)
    burn(cluster)
    give_up(cluster, root)
    assert cluster.lease(begun.id).state == "queued"
    assert cluster.lease(has_files.id).reason == "lost"
    other = second(cluster)
    other.plan()
    other.work()
    assert cluster.lease(begun.id).state == "running"
    cluster.driver.knobs.down = False
    for job, work in jobs:
        work(job)  # whoever was at it finds its claim gone, and leaves nothing
    assert cluster.driver.containers(cluster.installation) == []
    assert cluster.lease(begun.id).state == "running"


def test_whoever_is_late_to_start_it_again_leaves_its_files(cluster: Cluster, root: Principal) -> None:
    lease = cluster.run()
    cluster.driver.write_file(name(cluster, lease, 1), FILE, b"weights")
    started_anew(cluster, lease)
    workers = cluster.workers("late")
    with cluster.sessions.begin() as session:
        jobs = workers.claim(session)
    burn(cluster)
    give_up(cluster, root)
    cluster.driver.knobs.down = False
    for job, work in jobs:
        work(job)
    assert cluster.lease(lease.id).reason == "lost"
    assert on_engine(cluster) == ([(name(cluster, lease, 1), "exited")], [], [])
    assert cluster.driver.file(name(cluster, lease, 1), FILE) == b"weights"


def test_one_that_was_released_or_goes_on_from_elsewhere_is_as_it_was(
    cluster: Cluster, root: Principal
) -> None:
    released, moved = cluster.run(), suspended(cluster, gpu="0")
    cluster.release(released.id)
    other = second(cluster)
    with cluster.sessions.begin() as session:
        machines.set_node_intent(session, "local", NodeIntent.DRAINING, principal=root)
    resume(cluster, moved)
    cluster.plan()
    assert cluster.lease(moved.id).state == "placed"
    other.driver.knobs.down = True
    nodes.run_once(cluster.sessions, other.fleet)
    give_up(cluster, root, "second")
    assert cluster.lease(moved.id).state == "queued", "its files are on the other node"
    assert cluster.driver.file(name(cluster, moved, 1), FILE) == b"weights"
    burn(cluster)
    give_up(cluster, root)
    assert ends(cluster, released) == {("ended", "released", "ada released it")}
    assert cluster.lease(moved.id).reason == "lost"


def test_one_that_goes_on_elsewhere_with_files_from_there_is_stopped(
    cluster: Cluster, root: Principal
) -> None:
    lease = suspended(cluster, gpu="0")
    other = second(cluster)
    with cluster.sessions.begin() as session:
        machines.set_node_intent(session, "local", NodeIntent.DRAINING, principal=root)
    resume(cluster, lease)
    cluster.plan()
    cluster.driver.knobs.down = True
    nodes.run_once(cluster.sessions, other.fleet)
    give_up(cluster, root)
    other.work()
    assert ends(cluster, lease) == {("ended", "lost", "root declared node local lost")}
    assert held(cluster) == (0, 0)


def test_its_hours_are_sealed_up_to_where_it_was_last_seen(cluster: Cluster, root: Principal) -> None:
    lease = cluster.run(gpu="1")
    usage.run_once(cluster.sessions, Clock(cluster.sessions))
    with cluster.sessions.begin() as session:
        moment = now(session)
        began = hour_of(moment) - timedelta(hours=3)
        seen = began + timedelta(minutes=30)
        session.execute(sa.update(Node).values(created_at=began))
        session.execute(sa.delete(RunSpan))
        session.execute(sa.update(Run).values(started_at=began, placed_at=began))
        session.execute(sa.update(Allocation).values(created_at=began))
        session.execute(sa.update(Counting).values(sealed_until=began, compared_at=seen, looked_at=moment))
    burn(cluster)
    assert usage.run_once(cluster.sessions, Clock(cluster.sessions)) == 0, (
        "nobody knows yet for how long it ran"
    )
    give_up(cluster, root)
    assert usage.run_once(cluster.sessions, Clock(cluster.sessions)) >= 2
    with cluster.sessions() as session:
        run = session.execute(sa.select(Run).where(Run.lease_id == lease.id)).scalar_one()
        assert run.stopped_at == seen
        ran = session.execute(sa.select(sa.func.sum(UsageHour.ran_ns)).where(UsageHour.model == ""))
        assert float(ran.scalar_one()) == timedelta(minutes=30).total_seconds() * 10**9


def test_its_workspaces_are_lost_for_as_long_as_it_is(cluster: Cluster, root: Principal) -> None:
    kept = used(cluster)
    burn(cluster)
    with cluster.sessions() as session:
        assert machines.nodes(session, now=now(session)).items[0].workspaces == 1
    give_up(cluster, root)
    assert kinds(cluster) == ["workspace.lost"]
    with cluster.sessions() as session:
        assert workspace_views.one(session, kept, principal=cluster.ada).lost
    with pytest.raises(Conflict, match="was on node local, which is lost") as caught:
        ask(cluster, cluster.ada, "data")
    assert caught.value.hint is not None
    assert "lease workspace rm data" in caught.value.hint
    rm(cluster, "data")
    anew = ask(cluster, cluster.ada, "data")
    assert anew.workspace_id != kept

    cluster.driver.knobs.down = False
    nodes.run_once(cluster.sessions, cluster.fleet)
    with cluster.sessions() as session:
        assert not workspace_views.one(session, anew.workspace_id or kept, principal=cluster.ada).lost


def test_its_reservations_move_to_others_or_are_told_to_be_broken(cluster: Cluster, root: Principal) -> None:
    book(cluster)
    burn(cluster)
    give_up(cluster, root)
    bookings.run_once(cluster.sessions, cluster.settings)
    with cluster.sessions() as session:
        message = session.execute(sa.select(Reservation.message)).scalar_one()
    assert "node local is lost" in message


def test_should_it_answer_again_files_are_kept_there_and_it_may_be_opened(
    cluster: Cluster, root: Principal
) -> None:
    running, resting = cluster.run(), suspended(cluster)
    burn(cluster)
    give_up(cluster, root)
    cluster.driver.knobs.down = False
    nodes.run_once(cluster.sessions, cluster.fleet)
    with cluster.sessions() as session:
        node = node_of(session)
        assert (node.health, node.intent) == ("ready", "cordoned"), (
            "nothing is placed there before an admin says so"
        )
    files = [(name(cluster, running, 1), "exited"), (name(cluster, resting, 1), "exited")]
    sweep(cluster)
    assert on_engine(cluster) == (files, [], [])
    assert cluster.driver.file(name(cluster, resting, 1), FILE) == b"weights"
    for lease in (running, resting):
        kind, said = events_of(cluster, lease)[-1]
        assert (kind, f"docker cp {name(cluster, lease, 1)}:/home/lease ." in said) == ("lease.found", True)
    with cluster.sessions.begin() as session:
        machines.set_node_intent(session, "local", NodeIntent.OPEN, principal=root)
    assert cluster.run().state == "running"


def test_the_command_asks_first_and_says_what_goes(cluster: Cluster, tmp_path: Path) -> None:
    with served(cluster, tmp_path) as api:
        words = ("admin", "nodes", "lost", "local")
        signed_in = {"LEASING_URL": api.url, "LEASING_TOKEN": api.user("boss", Role.ADMIN)}
        lease = cluster.run(workspace="data")
        early = run(*words, "--yes", **signed_in)
        assert (early.returncode, "lease admin nodes drain local" in early.stderr) == (1, True)
        burn(cluster)
        unsure = run(*words, **signed_in)
        assert (unsure.returncode, "lease admin nodes lost local --yes" in unsure.stderr) == (1, True)
        assert cluster.lease(lease.id).state == "running"
        assert run(*words[:-1], "nowhere", "--yes", **signed_in).returncode == 5
        other = {"LEASING_URL": api.url, "LEASING_TOKEN": token(cluster, cluster.ada)}
        assert "admin" in run(*words, "--yes", **other).stderr
        done = run(*words, "--yes", **signed_in)
        assert done.stdout.splitlines()[0] == "Node local is lost, with 1 lease and 1 workspace."
        assert "boss declared node local lost" in run("why", lease.name, **other).stdout
        assert "local (lost)" in run("workspace", "ls", **other).stdout
        assert "lost" in run("admin", "nodes", "ls", **signed_in).stdout
