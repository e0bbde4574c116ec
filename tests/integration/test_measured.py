"""What containers used and when they ran, through the scheduler's own code: gaps, restarts, deaths that nobody saw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import now
from leasing.drivers.protocol import Container
from leasing.model import Counting, Run, RunSample, RunSpan, RunUse
from leasing.service import used
from leasing.service.used import Part, Reading, hour_of
from scheduler.clock import Clock
from scheduler.reconcile import usage as stage
from tests.support.cluster import Cluster
from tests.support.past import A100, Past

HOUR = timedelta(hours=1)


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


@pytest.fixture
def run(session: Session) -> Run:
    past = Past.make(session, hours_ago=4)
    return past.run(past.lease("train"), 0, None)


def took(session: Session) -> dict[tuple[int, str], tuple[float, float, float]]:
    """By hour and model: measured, used, memory."""
    rows = session.execute(sa.select(RunUse).execution_options(populate_existing=True)).scalars().all()
    first = min(row.hour for row in rows)
    return {
        (int((row.hour - first) / HOUR), row.model): (row.measured, row.used, row.memory_byte_seconds)
        for row in rows
    }


def spans(cluster: Cluster) -> list[tuple[datetime, datetime | None]]:
    with cluster.sessions() as session:
        rows = session.execute(sa.select(RunSpan.since, RunSpan.until).order_by(RunSpan.since))
        return [(since, until) for since, until in rows]


def test_what_lies_between_two_samples_belongs_to_the_hours_it_lies_in(session: Session, run: Run) -> None:
    edge = hour_of(now(session))
    parts = [Part(A100, 1000, 0.5), Part("NVIDIA H100", 500, 0.25), Part("NVIDIA L4", 1000, None)]
    before = edge - timedelta(seconds=3)
    used.add(session, [Reading(run.id, before, 8.0, 100, parts)], now=edge + timedelta(seconds=1))
    used.add(
        session, [Reading(run.id, edge + timedelta(seconds=1), 1.0, 200)], now=edge + timedelta(seconds=3)
    )
    assert took(session) == {
        (0, ""): (3, 6, 300), (1, ""): (3, 3, 500),
        (0, A100): (3, 1.5, 0), (1, A100): (1, 0.5, 0),
        (0, "NVIDIA H100"): (1.5, 0.75, 0), (1, "NVIDIA H100"): (0.5, 0.25, 0),
    }  # fmt: skip


def test_a_gap_and_a_clock_that_went_back_and_a_counter_that_began_anew_measure_nothing(
    session: Session, run: Run
) -> None:
    moment = now(session)
    for since, cpu in ((timedelta(seconds=16), 5.0), (timedelta(seconds=-2), 5.0), (timedelta(0), 5.0)):
        used.add(session, [Reading(run.id, moment - since, cpu, 100)], now=moment)
    used.add(session, [Reading(run.id, moment - timedelta(seconds=2), None, 100)], now=moment)
    assert session.execute(sa.select(RunUse)).first() is None


def test_a_restart_with_the_engine_counts_both_times_and_not_the_one_between(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1")
    cluster.driver.restart_engine()
    assert cluster.compare() == 1
    ((since, until),) = spans(cluster)
    assert until is not None
    cluster.work()
    assert cluster.lease(lease.id).state == "running"
    first, second = spans(cluster)
    assert first == (since, until)
    assert second[0] > until
    assert second[1] is None
    with cluster.sessions() as session:
        row = session.execute(sa.select(Run)).scalar_one()
        assert (row.started_at, row.stopped_at, row.generation) == (second[0], None, 1)


def test_suspended_time_is_nobodys(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1")
    cluster.suspend(lease.id)
    cluster.work()
    cluster.resume(lease.id)
    cluster.plan()
    cluster.work()
    assert cluster.lease(lease.id).state == "running"
    (_, until), (since, still) = spans(cluster)
    assert until is not None
    assert since > until
    assert still is None


def test_what_ended_counts_until_its_container_stopped_and_not_until_that_was_written(
    cluster: Cluster,
) -> None:
    lease = cluster.run(gpu="1")
    cluster.release(lease.id)
    cluster.work()
    with cluster.sessions() as session:
        stopped, released = session.execute(sa.select(Run.stopped_at, Run.released_at)).one()
    ((_, until),) = spans(cluster)
    assert stopped is not None
    assert released is not None
    assert until == stopped < released


@pytest.mark.parametrize("seen", ["started", "compared", "sampled"])
def test_an_engine_whose_clock_is_behind_takes_nothing_off_what_was_seen(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    lease = cluster.run(gpu="1")
    stage.run_once(cluster.sessions, Clock(cluster.sessions))
    if seen == "compared":
        assert cluster.compare() == 0
    with cluster.sessions.begin() as session:
        run = session.execute(sa.select(Run)).scalar_one()
        last = run.started_at
        if seen == "compared":
            last = session.execute(sa.select(Counting.compared_at)).scalar_one()
        elif seen == "sampled":
            last = now(session)
            session.add(RunSample(run_id=run.id, at=last, cpu_seconds_total=1.0, memory_working_set_bytes=1))
    inspect = cluster.driver.inspect

    def behind(name: str) -> Container | None:
        found = inspect(name)
        if found is None or found.finished_at is None:
            return found
        return replace(found, finished_at=found.finished_at - timedelta(minutes=5))

    monkeypatch.setattr(cluster.driver, "inspect", behind)
    cluster.release(lease.id)
    cluster.work()
    with cluster.sessions() as session:
        assert session.execute(sa.select(Run.stopped_at)).scalar_one() == last


def test_a_comparison_after_its_stop_says_nothing_of_it(cluster: Cluster) -> None:
    """As with one whose worker died before it could write the stop down."""
    lease = cluster.run(gpu="1")
    stage.run_once(cluster.sessions, Clock(cluster.sessions))
    assert cluster.compare() == 0
    cluster.release(lease.id)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Counting).values(compared_at=now(session) + timedelta(hours=1)))
    cluster.work()
    with cluster.sessions() as session:
        stopped, released = session.execute(sa.select(Run.stopped_at, Run.released_at)).one()
    assert stopped is not None
    assert released is not None
    assert stopped < released


def test_a_container_that_is_gone_counts_until_it_was_last_seen(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1")
    stage.run_once(cluster.sessions, Clock(cluster.sessions))
    assert cluster.compare() == 0
    with cluster.sessions() as session:
        seen = session.execute(sa.select(Counting.compared_at)).scalar_one()
    assert seen is not None
    cluster.driver.remove(cluster.container(lease.id), network=None)
    assert cluster.compare() == 1
    assert cluster.lease(lease.id).state == "ended"
    ((_, until),) = spans(cluster)
    assert until == seen


def test_a_container_that_was_never_seen_to_run_has_used_nothing(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1")
    cluster.driver.remove(cluster.container(lease.id), network=None)
    cluster.compare()
    ((since, until),) = spans(cluster)
    assert since == until
