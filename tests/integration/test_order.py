"""Who comes first on a real PostgreSQL: classes, shares of projects, conditions, and who gives way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import now
from leasing.model import Event, Lease, Node, Project, Run
from leasing.service import views
from scheduler import fairness
from tests.support.cluster import Cluster

HALF_LIFE = 86_400.0


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=4, cpus=16) as made:
        yield made


def project(cluster: Cluster, name: str, *, weight: float = 1.0, top_priority: int = 0) -> None:
    with cluster.sessions.begin() as session:
        session.add(Project(name=name, open=True, weight=weight, top_priority=top_priority))


def used(session: Session, name: str) -> float:
    return session.execute(sa.select(Project.used_device_seconds).where(Project.name == name)).scalar_one()


def shift(session: Session, lease_id: object, began: datetime, left: datetime | None = None) -> None:
    session.execute(sa.update(Run).where(Run.lease_id == lease_id).values(placed_at=began, released_at=left))


def order(cluster: Cluster) -> list[str]:
    with cluster.sessions() as session:
        return [one.lease for one in views.queue(session, now=now(session)).items]


def test_what_a_project_uses_is_counted_and_fades(cluster: Cluster) -> None:
    lease = cluster.run(gpu="2")
    with cluster.sessions.begin() as session:
        moment = now(session)
        shift(session, lease.id, moment - timedelta(hours=1))
        session.execute(sa.update(Project).values(used_at=moment - timedelta(hours=2), used_device_seconds=0))
        fairness.account(session, moment, half_life_seconds=HALF_LIFE)
        first = used(session, "default")
        # two devices for an hour, of which the beginning has faded a little
        assert 7000 < first < 7200
        fairness.account(session, moment + timedelta(seconds=1), half_life_seconds=HALF_LIFE)
        assert used(session, "default") == first, "not twice within a few seconds"
        shift(session, lease.id, moment - timedelta(hours=1), moment)
        fairness.account(session, moment + timedelta(seconds=HALF_LIFE), half_life_seconds=HALF_LIFE)
        assert used(session, "default") == pytest.approx(first / 2, rel=1e-6)


def test_counted_in_small_steps_or_in_one_it_comes_to_the_same(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1")
    totals = []
    for steps in (1, 40):
        with cluster.sessions.begin() as session:
            moment = now(session)
            shift(session, lease.id, moment - timedelta(hours=10))
            start = moment - timedelta(hours=20)
            session.execute(sa.update(Project).values(used_at=start, used_device_seconds=500))
            for step in range(1, steps + 1):
                fairness.account(
                    session, start + timedelta(hours=20) * step / steps, half_life_seconds=HALF_LIFE
                )
            totals.append(used(session, "default"))
            session.rollback()
    assert totals[0] == pytest.approx(totals[1], rel=1e-9)


def test_the_project_that_has_had_less_comes_first_and_the_queue_says_so(cluster: Cluster) -> None:
    project(cluster, "vision")
    cluster.run(gpu="4", ttl="4h")
    early = cluster.ask(gpu="4", name="early")
    cluster.ask(gpu="4", name="late", project="vision")
    cluster.plan()
    assert order(cluster) == ["late", "early"]
    assert (
        "of those that came later, 1 of projects that have used less" in cluster.lease(early.id).blockers[0]
    )


def test_higher_classes_come_first_and_preemptible_leases_last_in_their_own(cluster: Cluster) -> None:
    project(cluster, "urgent", top_priority=1)
    cluster.run(gpu="4", ttl="4h")
    cluster.ask(gpu="4", name="yields", preemptible=True)
    cluster.ask(gpu="4", name="low", priority="low")
    cluster.ask(gpu="4", name="normal")
    cluster.ask(gpu="4", name="high", priority="high", project="urgent")
    cluster.plan()
    assert order(cluster) == ["high", "normal", "yields", "low"]


def test_who_agreed_gives_way_after_its_protected_time_and_its_place_goes_to_the_head(
    cluster: Cluster,
) -> None:
    agreed = cluster.run(gpu="4", preemptible=True)
    head = cluster.ask(gpu="2", name="head")
    cluster.plan()
    assert cluster.lease(agreed.id).state == "running", "it has run for moments only"
    with cluster.sessions.begin() as session:
        session.execute(
            sa.update(Run)
            .where(Run.lease_id == agreed.id)
            .values(started_at=now(session) - timedelta(minutes=11))
        )
    cluster.plan()
    victim = cluster.lease(agreed.id)
    assert (victim.state, victim.goal, victim.suspend_reason) == ("stopping", "suspended", "preempted")
    cluster.plan()
    cluster.work()
    cluster.plan()
    cluster.work()
    assert cluster.lease(head.id).state == "running"
    assert cluster.lease(agreed.id).state == "queued"
    with cluster.sessions() as session:
        said = session.execute(
            sa.select(Event.message).where(Event.lease_id == agreed.id, Event.to_state == "stopping")
        ).scalar_one()
    assert "head" in said
    cluster.release(head.id)
    cluster.work()
    cluster.plan()
    cluster.work()
    assert cluster.lease(agreed.id).state == "running", "it goes on by itself"


def test_only_a_node_with_the_labels_will_do(cluster: Cluster) -> None:
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Node).values(labels={"zone": "a", "disk": "nvme"}))
    fits = cluster.ask(labels={"zone": "a"})
    cluster.plan()
    assert cluster.lease(fits.id).state == "placed"
    with cluster.sessions.begin() as session:
        waits = cluster.ask(labels={"zone": "a"}, name="waits").id
        session.execute(sa.update(Node).values(labels={"zone": "b"}))
    cluster.plan()
    lease: Lease = cluster.lease(waits)
    assert lease.state == "queued"
    assert "is not labelled zone=a" in lease.blockers[0]
