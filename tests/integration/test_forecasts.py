"""What those who wait were told is kept, measured and published; who started later than told learns why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.model import Event, Forecast, Lease, Node
from leasing.schema.lease import RenewRequest
from leasing.service import events, forecasts, leases, views
from leasing.settings.limits import LimitSettings
from scheduler import history
from scheduler.forecasts import told
from scheduler.policy.snapshot import Plan
from tests.support.cluster import Cluster

MINUTE = timedelta(minutes=1)


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


def kept(cluster: Cluster, lease_id: UUID) -> list[Forecast]:
    with cluster.sessions() as session:
        found = sa.select(Forecast).where(Forecast.lease_id == lease_id).order_by(Forecast.told_at)
        return list(session.execute(found).scalars())


def tell(cluster: Cluster, lease_id: UUID, expected: timedelta, latest: timedelta) -> None:
    """As a planner does, by times from now."""
    with cluster.sessions.begin() as session:
        moment = now(session)
        plan = Plan([], [], {}, {lease_id: moment + expected}, {lease_id: moment + latest})
        told(session, plan, plan.expected, moment)


def back_in_time(cluster: Cluster, lease_id: UUID, by: timedelta) -> None:
    """As if it had been told so much earlier."""
    with cluster.sessions.begin() as session:
        row = session.execute(sa.select(Forecast).where(Forecast.lease_id == lease_id)).scalar_one()
        session.execute(
            sa.update(Forecast)
            .where(Forecast.lease_id == lease_id)
            .values(
                told_at=row.told_at - by,
                expected_start=row.expected_start - by,
                latest_start=row.latest_start - by if row.latest_start else None,
            )
        )


def came(
    cluster: Cluster,
    expected: timedelta,
    started: timedelta | None,
    latest: timedelta | None = None,
    *,
    ahead: int = 0,
) -> UUID:
    """A lease that was told a start, and had its place then; times are from when it was told, two hours ago."""
    lease = cluster.ask()
    with cluster.sessions.begin() as session:
        moment = now(session) - timedelta(hours=2)
        session.add(
            Forecast(
                lease_id=lease.id,
                told_at=moment,
                expected_start=moment + expected,
                latest_start=None if latest is None else moment + latest,
                foreseen_start=moment + expected,
                ahead=ahead,
                placed_at=None if started is None else moment + started,
            )
        )
    return lease.id


def free(cluster: Cluster, lease: Lease) -> None:
    cluster.release(lease.id)
    cluster.work()
    cluster.plan()


def test_what_was_first_told_is_kept_once_and_closed_by_its_place(cluster: Cluster) -> None:
    running = cluster.run(gpu="2", ttl="2h")
    waits = cluster.ask(gpu="2")
    assert kept(cluster, waits.id) == []
    cluster.plan()
    cluster.plan()
    (row,) = kept(cluster, waits.id)
    assert (row.expected_start, row.placed_at) == (running.ends_at, None)
    free(cluster, running)
    (row,) = kept(cluster, waits.id)
    assert cluster.lease(waits.id).state == "placed"
    assert row.placed_at is not None
    assert row.placed_at < row.expected_start
    with cluster.sessions() as session:
        assert (
            session.execute(sa.select(sa.func.count()).where(Event.kind == "lease.delayed")).scalar_one() == 0
        )


def test_who_queues_again_is_told_anew(cluster: Cluster) -> None:
    waits = cluster.ask()
    for _ in range(2):
        tell(cluster, waits.id, MINUTE, MINUTE)
        with cluster.sessions.begin() as session:
            session.execute(sa.update(Forecast).values(placed_at=sa.func.now()))
    assert len(kept(cluster, waits.id)) == 2


def test_the_error_of_forecasts_is_published(cluster: Cluster) -> None:
    with cluster.sessions() as session:
        assert views.queue(session, now=now(session)).accuracy is None
    for error in (-10, -4, 2, 20):
        came(cluster, 30 * MINUTE, (30 + error) * MINUTE, 40 * MINUTE)
    came(cluster, 30 * MINUTE, 31 * MINUTE)
    with cluster.sessions() as session:
        found = views.queue(session, now=now(session)).accuracy
    assert found is not None
    assert (found.forecasts, found.days, found.by_latest_ratio) == (5, 30, 0.75)
    assert found.median_error_seconds == pytest.approx(240)
    assert found.bias_seconds == pytest.approx(60 * 9 / 5)


def test_a_start_a_little_after_the_latest_time_told_is_not_late(cluster: Cluster) -> None:
    came(cluster, 30 * MINUTE, 30 * MINUTE + timedelta(seconds=50), 30 * MINUTE)
    with cluster.sessions() as session:
        found = forecasts.accuracy(session, now(session))
    assert found is not None
    assert found.by_latest_ratio == 1


def test_who_still_waits_after_the_time_told_counts_against_it(cluster: Cluster) -> None:
    overdue = came(cluster, 30 * MINUTE, None, 60 * MINUTE)
    came(cluster, 180 * MINUTE, None, 240 * MINUTE)  # its time has not come yet
    with cluster.sessions() as session:
        found = forecasts.accuracy(session, now(session))
    assert found is not None
    assert (found.forecasts, found.by_latest_ratio) == (1, 0)
    assert found.median_error_seconds == pytest.approx(90 * 60, abs=30)
    cluster.release(overdue)  # given up: nobody knows when it would have started
    with cluster.sessions() as session:
        assert forecasts.accuracy(session, now(session)) is None


def delayed(cluster: Cluster, lease_id: UUID) -> Event:
    with cluster.sessions() as session:
        return session.execute(
            sa.select(Event).where(Event.kind == "lease.delayed", Event.lease_id == lease_id)
        ).scalar_one()


def test_who_started_later_than_told_learns_who_extended_and_what_failed(cluster: Cluster) -> None:
    running, other = cluster.run(gpu="2", name="train"), cluster.run(name="notebook")
    waits = cluster.ask(gpu="2", name="waits")
    tell(cluster, waits.id, 5 * MINUTE, 10 * MINUTE)
    with cluster.sessions.begin() as session:
        for lease in (running, other):
            leases.renew(
                session, session.get_one(Lease, lease.id), RenewRequest(ttl="1h"), principal=cluster.ada,
                limits=LimitSettings(), now=now(session),
            )  # fmt: skip
        node = session.execute(sa.select(Node.id)).scalar_one()
        events.record(
            session,
            "node.unreachable",
            "node local is unreachable: no answer",
            actor="reconciler",
            node_id=node,
        )
        events.record(session, "device.recovered", "GPU 0 is well again", actor="node:local", node_id=node)
        # it left before it was to, so that extending it has delayed nobody
        session.execute(
            sa.update(Lease).where(Lease.id == other.id).values(ended_at=now(session) - timedelta(minutes=25))
        )
    back_in_time(cluster, waits.id, 30 * MINUTE)
    free(cluster, running)
    event = delayed(cluster, waits.id)
    assert event.message == (
        "got its place 20m later than it was told: train was extended, node local is unreachable: no answer"
    )
    assert [one["cause"] for one in event.data["causes"]] == ["renewal", "fault"]
    assert event.data["late_seconds"] == pytest.approx(1200, abs=30)


def test_a_better_standing_is_a_cause_and_going_ahead_without_delaying_is_none(cluster: Cluster) -> None:
    running = cluster.run(gpu="1", name="running")
    waits = cluster.ask(gpu="2", name="waits")
    tell(cluster, waits.id, 5 * MINUTE, 10 * MINUTE)
    ahead = cluster.run(gpu="0", name="ahead")
    urgent = cluster.ask(gpu="1", name="urgent")
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).where(Lease.id == urgent.id).values(priority=1))
    cluster.plan()
    cluster.work()
    assert cluster.lease(urgent.id).state == "running"
    back_in_time(cluster, waits.id, 30 * MINUTE)
    for lease in (running, ahead):
        cluster.release(lease.id)
    free(cluster, urgent)
    event = delayed(cluster, waits.id)
    assert event.message == "got its place 20m later than it was told: urgent came later and stood before it"


def test_history_tells_how_long_leases_stay(cluster: Cluster) -> None:
    lasted = [cluster.run(name=f"one-{number}", ttl="1h") for number in range(12)]
    with cluster.sessions.begin() as session:
        moment = now(session)
        for lease in lasted[:10]:
            past(session, lease.id, moment, minutes=15, reason="released")
        past(session, lasted[10].id, moment, minutes=30, reason="revoked")
        parts = sorted((round(stay.part, 2), stay.left) for stay in history.stays(session, moment))
        assert parts == [(0.0, False), *[(0.25, True)] * 10, (0.5, False)]
        found = history.behaviour(session, moment)
        assert found.likely_seconds("any", "other", 3600, 0) == pytest.approx(900)
        past(session, lasted[11].id, moment, minutes=60, reason="expired")
        assert history.behaviour(session, moment + timedelta(seconds=59)) is found
        assert history.behaviour(session, moment + timedelta(seconds=61)) is not found


def past(session: sa.orm.Session, lease_id: UUID, moment: datetime, *, minutes: int, reason: str) -> None:
    """As if it had run for so long, of an hour, and were over."""
    facts = {
        "id": lease_id,
        "began": moment - timedelta(hours=2),
        "ran": timedelta(minutes=minutes),
        "reason": reason,
    }
    session.execute(
        sa.text(
            "UPDATE run SET started_at = :began, stopped_at = :began + :ran, released_at = :began + :ran"
            " WHERE lease_id = :id"
        ),
        facts,
    )
    session.execute(
        sa.text(
            "UPDATE lease SET state = 'ended', reason = :reason, started_at = :began, ended_at = :began + :ran,"
            " ends_at = :began + interval '1 hour' WHERE id = :id"
        ),
        facts,
    )


def test_who_waits_is_told_a_likely_start_before_the_latest(cluster: Cluster) -> None:
    short = [cluster.run(name=f"short-{number}", ttl="1h") for number in range(10)]
    with cluster.sessions.begin() as session:
        for lease in short:
            past(session, lease.id, now(session), minutes=15, reason="completed")
    running = cluster.run(gpu="2", ttl="4h")
    waits = cluster.ask(gpu="2")
    cluster.plan()
    found = cluster.lease(waits.id)
    assert running.started_at is not None
    assert found.expected_start is not None
    assert abs(found.expected_start - running.started_at - timedelta(hours=1)) < MINUTE
    assert found.latest_start == running.ends_at


def test_a_forecast_is_corrected_by_how_such_forecasts_came_out(cluster: Cluster) -> None:
    for number in range(24):
        came(cluster, 60 * MINUTE, (15 if number % 2 else 30) * MINUTE, ahead=number % 2)
    with cluster.sessions.begin() as session:
        session.execute(sa.text("UPDATE lease SET state = 'ended', reason = 'cancelled', ended_at = now()"))
    running = cluster.run(gpu="2", ttl="2h")
    first, behind = cluster.ask(gpu="2", name="first", ttl="1h"), cluster.ask(gpu="2", name="behind")
    cluster.plan()
    found = {one: cluster.lease(lease.id) for one, lease in (("first", first), ("behind", behind))}
    assert found["first"].latest_start == running.ends_at
    for name, latest, part in (("first", 120, 0.5), ("behind", 180, 0.25)):
        (row,) = kept(cluster, found[name].id)
        start = found[name].expected_start
        assert start is not None
        assert start == row.expected_start
        assert abs(row.foreseen_start - row.told_at - latest * MINUTE) < MINUTE
        assert abs(start - row.told_at - part * latest * MINUTE) < MINUTE
    with (
        cluster.sessions.begin() as session
    ):  # having waited longer than others, it is told what is left of the rest
        session.execute(
            sa.update(Forecast)
            .where(Forecast.lease_id == first.id)
            .values(told_at=Forecast.told_at - timedelta(hours=4))
        )
    cluster.plan()
    assert cluster.lease(first.id).expected_start == running.ends_at
