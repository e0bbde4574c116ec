"""What is kept ready: made, given once, and gone when it has served; with the engine in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from images.catalogue import load
from leasing import names
from leasing.errors import DriverError, EngineDown
from leasing.model import Lease, Node, Part, Run, Warm, WarmPool
from leasing.service import parts, transitions
from leasing.settings.docker import DockerSettings
from leasing.settings.warm import WarmSettings
from leasing.states import Cause, LeaseState, NodeIntent
from scheduler.provision import Images
from scheduler.reconcile.foreseen import Foreseen
from scheduler.reconcile.orphans import Orphans
from scheduler.reconcile.warm import Keeper
from tests.support.cluster import IMAGE, Cluster

PAST = sa.text("""
    INSERT INTO lease (name, owner_id, project_id, state, reason, ended_at, image, gpu_count, env, cpus_millis,
        memory_bytes, created_at)
    SELECT :kind || hour || '-' || number, :user, :project, 'ended', 'released', now(), 'base', 0, CAST(:env AS jsonb),
        :cpus_millis, :memory_bytes, now() - make_interval(hours => hour)
    FROM generate_series(1, 21 * 24) AS hour, generate_series(1, 10) AS number
""")
SIZE = {"cpus_millis": 1000, "memory_bytes": 64 * 2**20}


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


def keep(cluster: Cluster, *, sandboxes: int = 0, **settings: Any) -> int:
    """One pass of the stage."""
    return keeper(cluster, sandboxes=sandboxes, **settings).run_once(
        cluster.driver, cluster.node_id, cluster.driver.probe()
    )


def keeper(cluster: Cluster, **settings: Any) -> Keeper:
    asked = WarmSettings(**settings)
    with cluster.sessions.begin() as session:
        part = parts.join(session, "scheduler")
    return Keeper(
        cluster.sessions, Images(lambda _: None), cluster.installation, part, asked, cluster.settings,
        DockerSettings(), Foreseen(asked),
    )  # fmt: skip


def pool(cluster: Cluster, count: int = 1, gpu: str | None = None, image: str = IMAGE) -> None:
    with cluster.sessions.begin() as session:
        session.add(WarmPool(image=image, gpu_model=gpu, count=count, **SIZE))


def rows(cluster: Cluster) -> list[Warm]:
    with cluster.sessions() as session:
        return list(session.execute(sa.select(Warm).order_by(Warm.created_at)).scalars())


def run_of(cluster: Cluster, lease_id: UUID) -> Run:
    with cluster.sessions() as session:
        return session.execute(
            sa.select(Run).where(Run.lease_id == lease_id, Run.released_at.is_(None))
        ).scalar_one()


def named(cluster: Cluster) -> set[str]:
    return {one.name for one in cluster.driver.containers(cluster.installation)}


def test_sandboxes_are_made_once_and_no_more(cluster: Cluster) -> None:
    assert keep(cluster, sandboxes=3) == 3
    assert keep(cluster, sandboxes=3) == 0
    assert {(row.role, row.state) for row in rows(cluster)} == {("sandbox", "ready")}
    assert named(cluster) == {names.warm(cluster.installation, row.id) for row in rows(cluster)}
    orphans = Orphans(cluster.sessions, cluster.installation, grace_seconds=0, lost_keep_days=7)
    assert orphans.run_once(cluster.driver, cluster.node_id) == [], "each has its row"
    assert keep(cluster, sandboxes=1) == 0
    assert keep(cluster, sandboxes=1) == 0
    assert len(named(cluster)) == len(rows(cluster)) == 1, "what is not wanted any more goes"


def test_one_that_no_row_knows_goes_with_its_network(cluster: Cluster) -> None:
    """As after a backup from before it was made has been restored: both have one name."""
    keep(cluster, sandboxes=1)
    with cluster.sessions.begin() as session:
        session.execute(sa.delete(Warm))
    orphans = Orphans(cluster.sessions, cluster.installation, grace_seconds=0, lost_keep_days=7)
    assert len(orphans.run_once(cluster.driver, cluster.node_id)) == 1
    assert named(cluster) == set()
    assert cluster.driver.networks(cluster.installation) == []


def test_a_start_joins_a_sandbox_which_goes_with_its_run(cluster: Cluster) -> None:
    keep(cluster, sandboxes=1)
    (made,) = rows(cluster)
    lease = cluster.run(gpu="1")
    run = run_of(cluster, lease.id)
    assert (run.warm_id, run.address) == (made.id, made.address)
    assert rows(cluster)[0].state == "taken"
    assert cluster.driver.networks(cluster.installation) == [names.warm(cluster.installation, made.id)]
    keep(cluster)
    assert len(rows(cluster)) == 1, "it has a run"

    cluster.release(lease.id)
    cluster.work()
    assert named(cluster) == set()
    assert cluster.driver.networks(cluster.installation) == []
    keep(cluster)
    assert rows(cluster) == []


def test_a_lease_that_fits_is_handed_a_waiting_container(cluster: Cluster) -> None:
    pool(cluster)
    assert keep(cluster) == 1
    (made,) = rows(cluster)
    lease = cluster.run(gpu="0", command=["serve", "--fast"])
    run = run_of(cluster, lease.id)
    assert (run.warm_id, run.container_id, run.image_id) == (made.id, made.container_id, made.image_id)
    (handed,) = cluster.driver.handed(cluster.container(lease.id))
    assert (handed.hostname, list(handed.command)) == (lease.name, ["serve", "--fast"])
    assert handed.environment["LEASE_NAME"] == lease.name
    assert named(cluster) == {cluster.container(lease.id)}

    cluster.release(lease.id)
    cluster.work()
    keep(cluster)
    assert len(rows(cluster)) == 1, "one that waits for the next"
    assert rows(cluster)[0].id != made.id, "never the same again"


@pytest.mark.parametrize(
    "wishes",
    [
        {"cpus": "2"},
        {"memory": "128M"},
        {"env": {"A": "b"}},
        {"gpu": "1"},
        {"workspace": "data"},
        {"shm": "32M"},
    ],
    ids=lambda wishes: next(iter(wishes)),
)
def test_one_that_does_not_fit_starts_as_ever(cluster: Cluster, wishes: dict[str, Any]) -> None:
    pool(cluster)
    keep(cluster)
    lease = cluster.run(**{"gpu": "0", **wishes})
    assert run_of(cluster, lease.id).warm_id is None
    assert rows(cluster)[0].state == "ready"


def test_no_two_leases_get_the_same(cluster: Cluster) -> None:
    pool(cluster, count=3)
    keep(cluster, sandboxes=2)
    asked = [cluster.ask(gpu="0") for _ in range(7)]
    cluster.plan()
    cluster.work()
    given = [run_of(cluster, lease.id).warm_id for lease in asked]
    assert (
        len([one for one in given if one is not None]) == len({one for one in given if one is not None}) == 5
    )
    assert len({run_of(cluster, lease.id).container_id for lease in asked}) == 7


def test_one_bound_to_a_device_serves_who_gets_that_device(cluster: Cluster) -> None:
    pool(cluster, gpu="A100")
    keep(cluster)
    (made,) = rows(cluster)
    assert made.device_id is not None
    first, second = cluster.run(gpu="1"), cluster.run(gpu="1")
    given = [run_of(cluster, lease.id).warm_id for lease in (first, second)]
    assert sorted(one is not None for one in given) == [False, True]


def test_a_device_bound_in_advance_yields_before_the_start(cluster: Cluster) -> None:
    pool(cluster, count=2, gpu="A100")
    assert keep(cluster) == 2
    lease = cluster.ask(gpu="2")
    cluster.plan()
    assert {row.state for row in rows(cluster)} == {"spent"}
    cluster.work()
    assert cluster.lease(lease.id).state == "running"
    assert named(cluster) == {cluster.container(lease.id)}, "nothing else is bound to its devices"
    assert keep(cluster) == 0, "no device is free"
    assert rows(cluster) == []


def test_nothing_is_made_while_anybody_waits_for_a_start(cluster: Cluster) -> None:
    cluster.ask(gpu="0")
    cluster.plan()
    assert keep(cluster, sandboxes=2) == 0
    cluster.work()
    assert keep(cluster, sandboxes=2) == 2


def test_as_many_are_kept_as_there_were_starts_lately(cluster: Cluster) -> None:
    for _ in range(5):
        cluster.run(gpu="0")
    assert keep(cluster, sandboxes=1, sandboxes_most=4) == 4


@pytest.mark.parametrize("intent", [NodeIntent.CORDONED, NodeIntent.DRAINING])
def test_a_node_that_is_closed_keeps_nothing_ready(cluster: Cluster, intent: NodeIntent) -> None:
    pool(cluster)
    keep(cluster, sandboxes=2)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Node).values(intent=intent))
    keep(cluster, sandboxes=2)
    assert rows(cluster) == []
    assert named(cluster) == set()


def test_with_little_disk_left_nothing_is_kept_ready(cluster: Cluster) -> None:
    pool(cluster)
    keep(cluster, sandboxes=2)
    cluster.driver.knobs.disk_free_bytes = cluster.settings.disk_reserve_bytes
    keep(cluster, sandboxes=2)
    assert rows(cluster) == []


def test_what_an_engine_s_restart_stopped_is_made_anew(cluster: Cluster) -> None:
    pool(cluster)
    keep(cluster, sandboxes=1)
    before = {row.id for row in rows(cluster)}
    cluster.driver.restart_engine()
    assert keep(cluster, sandboxes=1) == 2
    assert before.isdisjoint({row.id for row in rows(cluster)})


def test_a_container_of_an_image_that_changed_is_replaced(cluster: Cluster) -> None:
    pool(cluster)
    keep(cluster)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Warm).values(image_id="sha256:of-yesterday"))
    assert keep(cluster) == 1
    assert rows(cluster)[0].image_id != "sha256:of-yesterday"


@pytest.mark.parametrize("sandboxes", [0, 1])
def test_what_was_ready_and_is_gone_is_done_without(cluster: Cluster, sandboxes: int) -> None:
    if not sandboxes:
        pool(cluster)
    keep(cluster, sandboxes=sandboxes)
    cluster.driver.forget(next(iter(named(cluster))))
    lease = cluster.run(gpu="0")
    assert run_of(cluster, lease.id).warm_id is None
    keep(cluster)
    assert {row.state for row in rows(cluster)} <= {"ready"}


def test_a_container_that_cannot_be_handed_over_is_done_without(cluster: Cluster) -> None:
    pool(cluster)
    keep(cluster)
    cluster.driver.knobs.hand_over_error = DriverError("its shell has died")
    lease = cluster.run(gpu="0")
    assert named(cluster) == {cluster.container(lease.id)}


def test_one_that_was_restarted_with_its_engine_goes_on_in_the_same_containers(cluster: Cluster) -> None:
    keep(cluster, sandboxes=1)
    lease = cluster.run(gpu="0")
    before = run_of(cluster, lease.id)
    cluster.driver.restart_engine()
    cluster.change(lease.id, _starts_again)
    cluster.work()
    after = run_of(cluster, lease.id)
    assert cluster.lease(lease.id).state == "running"
    assert (after.container_id, after.warm_id) == (before.container_id, before.warm_id)
    assert after.address not in (None, before.address), "the sandbox has another address now"


def test_a_lease_whose_sandbox_was_removed_keeps_its_files(cluster: Cluster) -> None:
    keep(cluster, sandboxes=1)
    lease = cluster.run(gpu="0")
    cluster.driver.write_file(cluster.container(lease.id), "/home/lease/model", b"weights")
    cluster.driver.restart_engine()
    cluster.driver.forget(names.warm(cluster.installation, rows(cluster)[0].id))
    cluster.change(lease.id, _starts_again)
    cluster.work()
    assert cluster.lease(lease.id).state == "suspended"
    cluster.resume(lease.id)
    cluster.plan()
    cluster.work()
    assert cluster.driver.file(cluster.container(lease.id, 2), "/home/lease/model") == b"weights"


def test_what_an_engine_that_is_away_was_to_make_is_made_later(cluster: Cluster) -> None:
    facts = cluster.driver.probe()
    cluster.driver.knobs.down = True
    with pytest.raises(EngineDown):
        keeper(cluster, sandboxes=1).run_once(cluster.driver, cluster.node_id, facts)
    cluster.driver.knobs.down = False
    assert keep(cluster, sandboxes=1) == 1


@pytest.mark.parametrize("silent", [False, True], ids=["lives", "silent"])
def test_what_another_scheduler_makes_is_its_own_until_it_is_silent(cluster: Cluster, silent: bool) -> None:
    keep(cluster, sandboxes=1)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Warm).values(state="making", container_id=None))
        if silent:
            session.execute(sa.update(Part).values(seen_at=sa.func.now() - timedelta(seconds=16)))
    before = named(cluster)
    assert keep(cluster, sandboxes=1) == silent
    assert (named(cluster) == before) is not silent
    assert len(named(cluster)) == 1


def test_what_a_pass_could_not_finish_goes_with_the_next(cluster: Cluster) -> None:
    one = keeper(cluster, sandboxes=1)
    one.run_once(cluster.driver, cluster.node_id, cluster.driver.probe())
    before = named(cluster)
    with cluster.sessions.begin() as session:  # as where the database went away before it could be told
        session.execute(sa.update(Warm).values(state="making", container_id=None))
    assert one.run_once(cluster.driver, cluster.node_id, cluster.driver.probe()) == 1
    assert len(named(cluster)) == 1
    assert named(cluster).isdisjoint(before)


def test_the_forecast_keeps_warm_what_is_asked_for_at_this_hour(cluster: Cluster) -> None:
    """Three weeks of ten an hour, by leases of one kind; another kind that nobody could be handed is not foreseen."""
    reference = load()["base"].reference
    cluster.driver.import_image(Path("unused"), tag=reference)
    with cluster.sessions.begin() as session:
        user = session.execute(sa.text("SELECT id FROM users")).scalar_one()
        project = session.execute(sa.text("SELECT id FROM project")).scalar_one()
        for kind, env in (("a", "{}"), ("b", '{"A": "b"}')):
            session.execute(
                PAST,
                {"user": user, "project": project, "kind": kind, "env": env, **SIZE},
            )
    assert keep(cluster) == 0, "not without the admin's word"
    assert keep(cluster, forecast=True, forecast_most=3) == 2
    assert {(row.image, row.cpus_millis) for row in rows(cluster)} == {("base", 1000)}
    pool(cluster, image="base")
    keep(cluster, forecast=True)
    keep(cluster, forecast=True)
    assert len(rows(cluster)) == 1, "an admin's word counts more"


def _starts_again(session: Session, lease: Lease, moment: datetime) -> None:
    transitions.move(
        session, lease, LeaseState.STARTING, Cause.RECONCILER, now=moment, actor="test", message="restarted"
    )
