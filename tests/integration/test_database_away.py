"""The database comes back: the scheduler looks at once, however long it was away and however seldom a loop looks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime

import pytest
import sqlalchemy as sa

from leasing.model import Node
from leasing.settings.docker import DockerSettings
from leasing.settings.scheduler import SchedulerSettings
from scheduler.process import Scheduler
from tests.support.cluster import Cluster
from tests.support.stack import until


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=1) as made:
        yield made


def seen(cluster: Cluster) -> datetime | None:
    with cluster.sessions() as session:
        return session.execute(sa.select(Node.engine_seen_at)).scalar_one()


def cut(cluster: Cluster, application: str) -> int:
    with cluster.sessions.begin() as session:
        ended = sa.text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = :name AND datname = current_database()"
        )
        return len(session.execute(ended, {"name": application}).all())


def test_every_loop_looks_when_the_database_is_back(cluster: Cluster) -> None:
    """Loops that failed look ever more seldom, at last every 30 s."""
    scheduler = Scheduler(
        cluster.url,
        connect=lambda *_: cluster.driver,
        logins=lambda _: None,
        settings=SchedulerSettings(reconcile_seconds=3600),
        docker=DockerSettings(),
    )
    stop = threading.Event()
    thread = threading.Thread(target=scheduler.run, args=(stop,))
    thread.start()
    try:
        first = until(lambda: seen(cluster), what="the first look at the engine")
        until(lambda: cut(cluster, "leasing-scheduler-listen"), what="the end of its listening")
        until(lambda: seen(cluster) != first, what="another look", seconds=15)
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
