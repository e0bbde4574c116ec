"""The database's clock is set back: what was written by the old one holds nobody up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.model import Counting, Lease
from scheduler.clock import Clock
from scheduler.reconcile import usage
from tests.support.cluster import Cluster


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=1) as made:
        yield made


@pytest.mark.parametrize("column", ["claim_until", "retry_at"])
def test_work_of_before_is_taken_up_at_once(cluster: Cluster, column: str) -> None:
    lease = cluster.ask()
    cluster.plan()
    with cluster.sessions.begin() as session:
        ahead = now(session) + timedelta(hours=1)  # a clock that was an hour ahead then
        session.execute(sa.update(Lease).values({column: ahead}))
    cluster.work()
    assert cluster.lease(lease.id).state == "running"


@pytest.mark.parametrize("column", ["claim_until", "retry_at"])
def test_work_of_another_is_left_to_it(cluster: Cluster, column: str) -> None:
    lease = cluster.ask()
    cluster.plan()
    with cluster.sessions.begin() as session:
        soon = now(session) + timedelta(seconds=cluster.settings.claim_seconds)
        session.execute(sa.update(Lease).values({column: soon}))
    cluster.work()
    assert cluster.lease(lease.id).state == "placed"


def test_a_comparison_that_is_yet_to_come_proves_nothing(cluster: Cluster) -> None:
    cluster.run()
    usage.run_once(cluster.sessions, Clock(cluster.sessions))
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Counting).values(compared_at=now(session) + timedelta(hours=1)))
    assert cluster.compare() == 0
    with cluster.sessions() as session:
        compared_at = session.execute(sa.select(Counting.compared_at)).scalar_one()
        assert compared_at is not None
        assert compared_at <= now(session)
