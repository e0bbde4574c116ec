"""An engine that falls silent or is damaged costs its own leases their time, and nobody else's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.model import Counting, Lease, Run
from leasing.settings.docker import DockerSettings
from leasing.settings.scheduler import SchedulerSettings
from scheduler.clock import Clock
from scheduler.process import Scheduler
from scheduler.reconcile import nodes, usage
from tests.integration.test_lost_nodes import second
from tests.support.absent import falls_silent, with_failing
from tests.support.cluster import Cluster
from tests.support.stack import until


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url) as made:
        yield made


def compared_at(cluster: Cluster) -> datetime:
    with cluster.sessions() as session:
        found = session.execute(sa.select(Counting.compared_at)).scalar_one()
    assert found is not None
    return found


def test_an_engine_that_is_known_to_be_away_is_asked_for_no_start_and_no_stop(cluster: Cluster) -> None:
    """It would keep a worker waiting for two minutes each time, until there is none for anybody else."""
    cluster, driver = with_failing(cluster)
    released, waiting = cluster.run(), cluster.ask()
    cluster.plan()
    cluster.release(released.id)
    falls_silent(cluster, driver)
    for _ in range(cluster.settings.start_attempts + 1):
        with cluster.sessions.begin() as session:
            session.execute(sa.update(Lease).values(retry_at=None))
        cluster.work()
    assert driver.asked == 0
    for lease, state in ((released, "stopping"), (waiting, "starting")):
        waits = cluster.lease(lease.id)
        assert (waits.state, waits.attempts, waits.claim_token) == (state, 0, None)
        assert waits.progress == "will be tried again: Its node does not answer."
    driver.knobs.down = False
    nodes.run_once(cluster.sessions, cluster.fleet)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(retry_at=None))
    cluster.work()
    assert [cluster.lease(lease.id).state for lease in (released, waiting)] == ["ended", "running"]


def test_a_container_that_cannot_be_looked_at_keeps_no_other_waiting(cluster: Cluster) -> None:
    """A power cut has damaged one layer: the rest of the machine comes back as always."""
    cluster, driver = with_failing(cluster)
    usage.run_once(cluster.sessions, Clock(cluster.sessions))
    leases = [cluster.run() for _ in range(3)]
    cluster.compare()
    with cluster.sessions.begin() as session:
        long_ago = now(session) - timedelta(hours=1)
        session.execute(sa.update(Counting).values(compared_at=long_ago))
    driver.restart_engine()
    for broken in leases:
        driver.damaged = {cluster.container(broken.id)}
        cluster.compare()
        cluster.work()
        assert {cluster.lease(lease.id).state for lease in leases} == {"running"}
        running = {one.name for one in driver.containers(cluster.installation) if one.running}
        assert running >= {cluster.container(lease.id) for lease in leases if lease is not broken}
        assert compared_at(cluster) == long_ago, "nobody can say that it runs"
        driver.restart_engine()
    driver.damaged = set()
    assert cluster.compare() == len(leases)
    assert compared_at(cluster) > long_ago


def test_a_node_that_answers_with_errors_keeps_no_other_waiting(database_url: str) -> None:
    with Cluster.opened(database_url, cpus=1) as local:
        sick, driver = with_failing(local)
        sick.run()
        sound = second(sick)
        lost, orphaned = sound.run(), sound.run()
        with sick.sessions.begin() as session:  # the row is lost, as after a restored backup
            session.execute(
                sa.update(Run).where(Run.lease_id == orphaned.id).values(released_at=now(session))
            )
            session.execute(
                sa.update(Lease)
                .where(Lease.id == orphaned.id)
                .values(state="ended", reason="released", ended_at=now(session))
            )
        sound.driver.forget(sound.container(lost.id))
        driver.unlisted = True
        scheduler = Scheduler(
            sick.url,
            connect=lambda _, address: sound.driver if address else driver,
            logins=lambda _: None,
            settings=SchedulerSettings(missing_seconds=1, orphan_grace_seconds=0, reconcile_seconds=0.1),
            docker=DockerSettings(),
        )
        stop = threading.Event()
        thread = threading.Thread(target=scheduler.run, args=(stop,))
        thread.start()
        try:
            until(lambda: sick.lease(lost.id).state == "ended", what="the end of what is lost")
            until(lambda: sound.driver.containers(sick.installation) == [], what="the orphan's removal")
        finally:
            stop.set()
            thread.join(20)
