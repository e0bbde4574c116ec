"""Windows that are learned from what leases did: from the record, for whom, and what owners are told of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.model import Activity, LearnedWindow, Lease, Policy, Run, SignalKind
from leasing.service import events, policies, policymaking
from leasing.states import LeaseState
from scheduler.reconcile.windows import Windows
from tests.support.cluster import Cluster

MINUTE = timedelta(minutes=1)
QUIET = {str(kind): 0.0 for kind in SignalKind}


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


def learn(cluster: Cluster, **terms: object) -> None:
    with cluster.sessions.begin() as session:
        session.add(Policy(name="house", learned=True, grace_seconds=0, **terms))


def record(cluster: Cluster, lease: Lease, story: str, *, ago: timedelta) -> datetime:
    """Minute by minute, `x` busy, `.` quiet, `?` unknown, ` ` not recorded; the moment after the last of them."""
    with cluster.sessions.begin() as session:
        begin = now(session).replace(second=0, microsecond=0) - ago
        session.execute(sa.update(Run).where(Run.lease_id == lease.id).values(started_at=begin))
        session.add_all(
            Activity(
                lease_id=lease.id,
                minute=begin + number * MINUTE,
                peaks={} if sign == "?" else QUIET | ({"cpu": 1.0} if sign == "x" else {}),
            )
            for number, sign in enumerate(story)
            if sign != " "
        )
    return begin + len(story) * MINUTE


def window(cluster: Cluster, lease: Lease) -> tuple[int, int]:
    with cluster.sessions() as session:
        rule = policies.effective(session, [cluster.lease(lease.id)])[lease.id]
    return rule.window_seconds, rule.gaps


def test_the_window_is_learned_from_the_record_and_said(cluster: Cluster) -> None:
    learn(cluster)
    lease = cluster.run(gpu="1")
    stage = Windows(cluster.sessions)
    stage.run_once()
    assert window(cluster, lease) == (3600, 0), "the longest counts until enough is known"
    record(cluster, lease, "x" + ("." * 20 + "x") * 25, ago=timedelta(hours=20))
    Windows(cluster.sessions).run_once()
    assert window(cluster, lease) == (60, 25)
    with cluster.sessions() as session:
        shown = policymaking.show(session, "house")
        assert shown.said.startswith(
            "policy house: suspended after 1h idle (at most: that is learned), warned"
        )
        [found] = shown.windows
        assert (found.user, found.window_seconds, found.gaps) == ("ada", 60, 25)
        [said] = policymaking.for_leases(session, [cluster.lease(lease.id)]).values()
        assert said.said.startswith(
            "policy house: suspended after 1m idle (learned from 25 gaps), warned 15m"
        )


def test_short_gaps_are_not_worth_it(cluster: Cluster) -> None:
    learn(cluster, window_seconds=1800)
    lease = cluster.run(gpu="1")
    record(cluster, lease, "x" + ("..x" * 30), ago=timedelta(hours=5))
    Windows(cluster.sessions).run_once()
    assert window(cluster, lease) == (1800, 30)


def test_what_was_unknown_or_not_recorded_teaches_nothing(cluster: Cluster) -> None:
    learn(cluster)
    lease = cluster.run(gpu="1")
    record(cluster, lease, "x" + "....?....x" * 30 + "..... ...x" * 30, ago=timedelta(hours=20))
    Windows(cluster.sessions).run_once()
    seconds, gaps = window(cluster, lease)
    assert (seconds, gaps) == (3600, 60), "only the four quiet minutes before each activity are a gap"


def test_it_goes_on_from_where_it_was_and_begins_anew_when_the_policy_changes(cluster: Cluster) -> None:
    learn(cluster)
    lease = cluster.run(gpu="1")
    record(cluster, lease, "x" + ("." * 20 + "x") * 25, ago=timedelta(hours=20))
    stage = Windows(cluster.sessions)
    stage.run_once()
    stage.run_once()
    assert window(cluster, lease) == (60, 25), "nothing counts twice"
    with cluster.sessions.begin() as session:
        policy = session.execute(sa.select(Policy)).scalar_one()
        policy.window_seconds, policy.updated_at = 30, now(session)
    stage.run_once()
    assert window(cluster, lease) == (30, 25)


def test_a_gap_goes_on_while_a_lease_that_was_taken_back_rests(cluster: Cluster) -> None:
    learn(cluster)
    lease = cluster.run(gpu="1")
    end = record(cluster, lease, "x" + "..x" * 20 + "." * 10, ago=timedelta(hours=20))
    with cluster.sessions.begin() as session:
        for at, state, data in (
            (end, LeaseState.STOPPING, {"reclaimed": "idle"}),
            (end + 3 * timedelta(hours=1), LeaseState.QUEUED, {}),
        ):
            event = events.record(session, f"lease.{state}", "", actor="t", lease_id=lease.id, data=data)
            event.at, event.to_state = at, state
    stage = Windows(cluster.sessions)
    stage.run_once()
    assert window(cluster, lease)[1] == 21


def test_two_at_once_write_the_same_and_nothing_stays_of_a_policy_that_learns_no_more(
    cluster: Cluster,
) -> None:
    learn(cluster)
    lease = cluster.run(gpu="1")
    record(cluster, lease, "x" + ("." * 20 + "x") * 25, ago=timedelta(hours=20))
    one, other = Windows(cluster.sessions), Windows(cluster.sessions)
    one.run_once()
    other.run_once()
    assert window(cluster, lease) == (60, 25)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Policy).values(learned=False))
    one.run_once()
    with cluster.sessions() as session:
        assert not session.execute(sa.select(LearnedWindow)).all()
    assert window(cluster, lease) == (3600, 0)
