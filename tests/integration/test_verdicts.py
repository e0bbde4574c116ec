"""The verdicts of running leases as rows hold them, and the record that they can be made from again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.model import Activity, Lease, Policy, Run, Signal, SignalKind
from leasing.service import activity, signals
from leasing.service.signals import Observation
from scheduler.reconcile.verdicts import Verdicts
from tests.support.activity import ALL, quiet
from tests.support.cluster import Cluster

MINUTE = timedelta(minutes=1)


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


def judged(cluster: Cluster, lease: Lease) -> Lease:
    Verdicts(cluster.sessions).run_once()
    return cluster.lease(lease.id)


def test_idle_is_only_who_was_quiet_by_every_signal_for_the_whole_window(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1", port=80, idle_timeout="30m")
    quiet(cluster, lease, ALL)
    unknown = judged(cluster, lease)
    assert (unknown.idle_verdict, unknown.idle_since) == ("unknown", None)
    assert "endpoint" in unknown.idle_reason

    quiet(cluster, lease, f"{ALL} endpoint", active="gpu")
    active = judged(cluster, lease)
    assert (active.idle_verdict, active.idle_reason, active.idle_since) == ("active", "GPU in use", None)

    with cluster.sessions.begin() as session:
        session.execute(sa.update(Signal).values(active_at=None))
    idle = judged(cluster, lease)
    assert idle.idle_verdict == "idle"
    with cluster.sessions() as session:
        assert idle.idle_since is not None
        assert now(session) - idle.idle_since > timedelta(minutes=30)


def test_each_signal_alone_keeps_a_lease_from_being_idle(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1", idle_timeout="30m")
    for kind in ALL.split():
        with cluster.sessions.begin() as session:
            session.execute(sa.delete(Signal))
        quiet(cluster, lease, " ".join(set(ALL.split()) - {kind}))
        assert judged(cluster, lease).idle_verdict == "unknown", kind
        quiet(cluster, lease, ALL, active=kind)
        assert judged(cluster, lease).idle_verdict == "active", kind


def test_a_gap_makes_a_signal_unknown_for_a_whole_window(cluster: Cluster) -> None:
    lease = cluster.run(idle_timeout="30m")
    quiet(cluster, lease)
    with cluster.sessions.begin() as session:
        moment = now(session)
        session.execute(
            sa.update(Signal).where(Signal.kind == "cpu").values(seen_at=moment - timedelta(seconds=31))
        )
        signals.observe(session, [Observation(lease.id, SignalKind.CPU, 0.0)], now=moment)
    after = judged(cluster, lease)
    assert after.idle_verdict == "unknown"
    assert after.idle_since == moment, "from here on it is known again"


def test_a_clock_that_went_back_is_a_gap(cluster: Cluster) -> None:
    lease = cluster.run(idle_timeout="30m")
    quiet(cluster, lease)
    with cluster.sessions.begin() as session:
        moment = now(session) - timedelta(hours=2)
        signals.observe(session, [Observation(lease.id, SignalKind.CPU, 0.0)], now=moment)
    with cluster.sessions() as session:
        assert signals.of(session, [lease.id])[lease.id]["cpu"].known_since == moment
    assert judged(cluster, lease).idle_verdict == "unknown"


def test_what_is_no_measure_is_not_taken_in(cluster: Cluster) -> None:
    lease = cluster.run()
    with cluster.sessions.begin() as session:
        wrong = [Observation(lease.id, SignalKind.CPU, value) for value in (math.nan, math.inf, -1.0)]
        signals.observe(session, wrong, now=now(session))
        assert signals.of(session, [lease.id]) == {}


def test_thresholds_are_those_of_the_leases_policy(cluster: Cluster) -> None:
    lease, other = cluster.run(), cluster.run()
    with cluster.sessions.begin() as session:
        session.add(Policy(name="busy", lease_id=lease.id, thresholds={"cpu": 3.0}))
        session.flush()
        told = [Observation(one.id, SignalKind.CPU, 2.0) for one in (lease, other)]
        signals.observe(session, told, now=now(session))
        found = signals.of(session, [lease.id, other.id])
    assert found[lease.id]["cpu"].active_at is None
    assert found[other.id]["cpu"].active_at is not None


def test_a_minute_is_recorded_by_its_peaks_and_only_if_it_was_heard_without_a_gap(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1")
    begin = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Run).values(started_at=begin - timedelta(hours=1)))
        for second in range(-10, 80, 10):
            told = [Observation(lease.id, SignalKind.CPU, 4.0 if second == 20 else 0.5)]
            if second <= 50:  # heard in that minute, but who knows until when
                told.append(Observation(lease.id, SignalKind.GPU, 0.5))
            if second >= 20:  # not from its beginning on
                told.append(Observation(lease.id, SignalKind.DISK, 1.0))
            signals.observe(session, told, now=begin + timedelta(seconds=second))
        activity.record(session, begin)
        activity.record(session, begin)
    with cluster.sessions() as session:
        (row,) = session.execute(sa.select(Activity)).scalars()
        assert (row.lease_id, row.minute, row.peaks) == (lease.id, begin, {"cpu": 4.0})
        assert list(activity.of(session, [lease.id], begin=begin, end=begin + MINUTE)) == [lease.id]
    with cluster.sessions.begin() as session:
        activity.prune(session, keep=timedelta(days=30), now=begin + timedelta(days=30, minutes=1))
        assert session.execute(sa.select(sa.func.count()).select_from(Activity)).scalar_one() == 0
