"""What those who wait are told, and who may go ahead of them, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.model import Lease
from leasing.service import views
from tests.support.cluster import Cluster


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=8, cpus=16) as made:
        yield made


def test_the_head_is_told_when_and_only_who_does_not_delay_it_goes_ahead(cluster: Cluster) -> None:
    running = cluster.run(gpu="6", ttl="2h")
    head = cluster.ask(gpu="8", ttl="1h", name="head")
    short, long, cpus = (
        cluster.ask(gpu="1", ttl="1h", name="short"),
        cluster.ask(gpu="1", ttl="3h", name="long"),
        cluster.ask(gpu="0", ttl="9h", name="cpus"),
    )
    cluster.plan()
    states = {one.name: cluster.lease(one.id).state for one in (head, short, long, cpus)}
    assert states == {"head": "queued", "short": "placed", "long": "queued", "cpus": "placed"}
    assert cluster.lease(head.id).expected_start == running.ends_at
    with cluster.sessions() as session:
        why = views.why(session, cluster.lease(head.id), now=now(session))
        queue = views.queue(session, now=now(session))
    assert (why.position, why.expected_start) == (1, running.ends_at)
    assert [(one.lease, one.position) for one in queue.items] == [("head", 1), ("long", 2)]
    assert running.ends_at is not None
    assert queue.items[1].expected_start == running.ends_at + timedelta(hours=1)

    cluster.work()
    for one in (running, short):
        cluster.release(one.id)
    cluster.work()
    cluster.plan()
    assert cluster.lease(head.id).state == "placed"


def test_a_forecast_that_slips_by_seconds_is_not_written_again(cluster: Cluster) -> None:
    cluster.run(gpu="8")
    waits = cluster.ask(gpu="8")
    cluster.plan()
    first = cluster.lease(waits.id)
    with cluster.sessions.begin() as session:
        session.execute(
            sa.update(Lease)
            .where(Lease.state == "running")
            .values(ends_at=Lease.ends_at + timedelta(seconds=20))
        )
    cluster.plan()
    assert cluster.lease(waits.id).expected_start == first.expected_start
    with cluster.sessions.begin() as session:
        session.execute(
            sa.update(Lease)
            .where(Lease.state == "running")
            .values(ends_at=Lease.ends_at + timedelta(hours=1))
        )
    cluster.plan()
    moved = cluster.lease(waits.id).expected_start
    assert moved is not None
    assert first.expected_start is not None
    assert moved - first.expected_start == timedelta(hours=1, seconds=20)


def test_a_lease_that_waits_for_a_workspace_s_node_keeps_nobody_waiting(cluster: Cluster) -> None:
    first = cluster.run(workspace="data")
    cluster.release(first.id)
    cluster.work()
    with cluster.sessions.begin() as session:
        session.execute(sa.text("UPDATE node SET name = 'gone', intent = 'cordoned'"))
        session.execute(
            sa.text(
                "INSERT INTO node (id, name, driver, address, token_hash, health)"
                " SELECT gen_random_uuid(), 'other', driver, address, 'x', 'ready' FROM node"
            )
        )
        session.execute(
            sa.text(
                "INSERT INTO node_usage (node_id, cpus_millis, memory_bytes)"
                " SELECT id, 16000, 68719476736 FROM node WHERE name = 'other'"
            )
        )
    bound = cluster.ask(workspace="data")
    free = cluster.ask()
    cluster.plan()
    assert (cluster.lease(bound.id).state, cluster.lease(free.id).state) == ("queued", "placed")
    assert cluster.lease(bound.id).expected_start is None
