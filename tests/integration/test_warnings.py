"""The warning ladder on real rows: nothing is taken back before its warnings were promised, each early enough."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.model import Counting, Event, Keep, Lease, Notice, Policy
from leasing.schema.lease import RenewRequest
from leasing.service import device_faults, leases, notices
from scheduler.clock import Clock
from scheduler.reconcile import usage
from tests.support.cluster import LIMITS, Cluster
from tests.support.warned import clock, notices_of, pass_time, quiet_since, reclaimer, silence, steps

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
FIRST, LAST = timedelta(seconds=900), timedelta(seconds=300)


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=4) as made:
        yield made


def extend(cluster: Cluster, lease: Lease, **ask: str) -> None:
    def act(session: Session, row: Lease, moment: datetime) -> None:
        leases.renew(session, row, RenewRequest(**ask), principal=cluster.ada, limits=LIMITS, now=moment)

    cluster.change(lease.id, act)


def test_an_idle_lease_is_warned_twice_and_then_suspended(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1", idle_timeout="1h", ttl="8h", name="train")
    quiet_since(cluster, lease, 30 * MINUTE)
    taker = reclaimer(cluster)
    taker.run_once()
    assert notices_of(cluster, lease.id) == []
    assert cluster.lease(lease.id).reclaim_at is None

    quiet_since(cluster, lease, HOUR - FIRST)
    taker.run_once()
    taker.run_once()
    first = notices_of(cluster, lease.id)
    assert steps(first) == [("idle", 900, "shell"), ("idle", 900, "web")]
    warned = cluster.lease(lease.id)
    assert warned.state == "running"
    assert warned.reclaim_at == first[0].deadline
    assert abs(first[0].deadline - first[0].created_at - FIRST) < 20 * timedelta(seconds=1)
    assert first[0].message == "train is idle (GPU, CPU quiet for a while) and is suspended"

    pass_time(cluster, FIRST - LAST)
    taker = reclaimer(cluster)  # a successor knows what its predecessor promised
    taker.run_once()
    assert steps(notices_of(cluster, lease.id))[2:] == [("idle", 300, "shell"), ("idle", 300, "web")]
    pass_time(cluster, LAST - 20 * timedelta(seconds=1))
    reclaimer(cluster).run_once()
    assert cluster.lease(lease.id).state == "running"
    pass_time(cluster, timedelta(seconds=20))
    reclaimer(cluster).run_once()
    cluster.work()
    rests = cluster.lease(lease.id)
    assert (rests.state, rests.suspend_reason) == ("suspended", "idle")
    with cluster.sessions() as session:
        kinds = session.execute(
            sa.select(Event.kind).where(Event.lease_id == lease.id).order_by(Event.id)
        ).scalars()
        assert [kind for kind in kinds if kind == "lease.warned"] == ["lease.warned"] * 2


def test_what_is_heard_no_more_by_the_deadline_is_not_taken_back(cluster: Cluster) -> None:
    """Though whoever judges has stood still since: its verdict is still in the row."""
    lease = cluster.run(idle_timeout="1h", ttl="8h")
    quiet_since(cluster, lease, HOUR - FIRST)
    for wait in (FIRST - LAST, LAST):
        reclaimer(cluster).run_once()
        pass_time(cluster, wait)
    silence(cluster, lease)
    reclaimer(cluster).run_once()
    found = cluster.lease(lease.id)
    assert (found.state, found.idle_verdict, found.reclaim_at) == ("running", "unknown", None)


def test_who_was_asleep_for_hours_takes_nothing_back_at_once(cluster: Cluster) -> None:
    lease = cluster.run(idle_timeout="1h", ttl="24h")
    quiet_since(cluster, lease, HOUR - FIRST)
    reclaimer(cluster).run_once()
    pass_time(cluster, FIRST - LAST)
    reclaimer(cluster).run_once()
    pass_time(cluster, 5 * HOUR)
    reclaimer(cluster).run_once()
    after = cluster.lease(lease.id)
    assert after.state == "running"
    assert after.reclaim_at is not None
    assert after.reclaim_at - clock(cluster) > FIRST - MINUTE
    assert len(notices_of(cluster, lease.id)) == 6, "it is warned anew, of the deadline that counts now"


def test_a_shorter_window_still_warns_first(cluster: Cluster) -> None:
    lease = cluster.run(ttl="24h", idle_timeout="20h")
    quiet_since(cluster, lease, 5 * HOUR)
    reclaimer(cluster).run_once()
    assert notices_of(cluster, lease.id) == []
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(idle_timeout_seconds=None))
        session.add(Policy(name="strict", window_seconds=600, warnings=[120, 60]))
    reclaimer(cluster).run_once()
    warned = cluster.lease(lease.id)
    assert warned.state == "running"
    assert warned.reclaim_at is not None
    assert timedelta(seconds=110) < warned.reclaim_at - clock(cluster) <= timedelta(seconds=120)


def test_activity_and_an_extension_call_it_off(cluster: Cluster) -> None:
    lease = cluster.run(idle_timeout="1h", ttl="8h")
    quiet_since(cluster, lease, HOUR)
    reclaimer(cluster).run_once()
    assert cluster.lease(lease.id).reclaim_at is not None
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(idle_since=None))
    reclaimer(cluster).run_once()
    assert cluster.lease(lease.id).reclaim_at is None

    quiet_since(cluster, lease, HOUR)
    reclaimer(cluster).run_once()
    ends_at = cluster.lease(lease.id).ends_at
    extend(cluster, lease)
    after = cluster.lease(lease.id)
    assert (after.reclaim_at, after.idle_since) == (None, None)
    assert after.ends_at == ends_at, "it has time enough: only its being idle was put off"
    extend(cluster, lease, ttl="3h")
    with cluster.sessions() as session:
        assert ends_at is not None
        assert cluster.lease(lease.id).ends_at == ends_at + 3 * HOUR
        keep = session.execute(sa.select(Keep)).scalar_one()
        assert keep.until is not None
        assert abs(keep.until - clock(cluster) - 2 * HOUR) < MINUTE


def test_time_over_is_warned_of_as_far_as_there_is_time(cluster: Cluster) -> None:
    lease = cluster.run(ttl="10m", name="short")
    longer = cluster.run(ttl="4h", name="long")
    reclaimer(cluster).run_once()
    assert notices_of(cluster, lease.id) == [], "it began with less time than the first warning needs"
    pass_time(cluster, 6 * MINUTE)
    reclaimer(cluster).run_once()
    reclaimer(cluster).run_once()
    assert steps(notices_of(cluster, lease.id)) == [("expiry", 300, "shell"), ("expiry", 300, "web")]
    assert notices_of(cluster, longer.id) == []

    extend(cluster, lease)
    with cluster.sessions() as session:
        ends = session.get_one(Lease, lease.id).ends_at
        assert ends is not None
        assert abs(ends - clock(cluster) - 2 * HOUR - 4 * MINUTE) < MINUTE
    pass_time(cluster, 2 * HOUR + 5 * MINUTE)
    reclaimer(cluster).run_once()
    cluster.work()
    assert cluster.lease(lease.id).suspend_reason == "expired", "time needs no sample, and waits for nobody"


def test_no_files_go_at_the_end_of_a_time_that_nobody_was_warned_of(cluster: Cluster) -> None:
    """Though the policy says that they go then: whoever should have warned was away."""
    told, untold = cluster.run(ttl="4h"), cluster.run(ttl="8h")
    with cluster.sessions.begin() as session:
        session.add(Policy(name="strict", action="end"))
    pass_time(cluster, 4 * HOUR - LAST)
    reclaimer(cluster).run_once()
    pass_time(cluster, 4 * HOUR + LAST)
    assert [len(notices_of(cluster, lease.id)) for lease in (told, untold)] == [2, 0]
    reclaimer(cluster).run_once()
    cluster.work()
    assert [cluster.lease(lease.id).state for lease in (told, untold)] == ["ended", "suspended"]
    rests = cluster.lease(untold.id)
    assert (rests.suspend_reason, rests.message) == (
        "expired",
        "its time was over, of which nobody was warned",
    )
    assert rests.retain_until is not None, "from now on it is warned of that"


def test_a_policy_that_promises_no_warning_gives_none(cluster: Cluster) -> None:
    lease = cluster.run(ttl="4h")
    with cluster.sessions.begin() as session:
        session.add(Policy(name="strict", action="end", warnings=[]))
    pass_time(cluster, 4 * HOUR)
    reclaimer(cluster).run_once()
    cluster.work()
    assert cluster.lease(lease.id).state == "ended"


def test_a_fixed_end_takes_no_files_that_are_kept_longer(cluster: Cluster) -> None:
    lease = cluster.run(until=(clock(cluster) + 4 * HOUR).isoformat())
    cluster.suspend(lease.id)
    cluster.work()
    with cluster.sessions.begin() as session:
        session.add(Policy(name="strict", action="end"))
    pass_time(cluster, 5 * HOUR)
    kept = cluster.lease(lease.id).retain_until
    reclaimer(cluster).run_once()
    rests = cluster.lease(lease.id)
    assert (rests.state, rests.suspend_reason, rests.retain_until) == ("suspended", "expired", kept)


def test_kept_files_go_after_their_own_warnings(cluster: Cluster) -> None:
    lease = cluster.run(ttl="8h")
    cluster.suspend(lease.id)
    cluster.work()
    kept = cluster.lease(lease.id)
    assert kept.retain_until is not None
    pass_time(cluster, timedelta(days=8))  # nobody looked for a week and a day
    reclaimer(cluster).run_once()
    late = cluster.lease(lease.id)
    assert late.state == "suspended"
    assert late.retain_until is not None
    assert late.retain_until - clock(cluster) > timedelta(days=1, hours=23)
    assert steps(notices_of(cluster, lease.id)) == [("retention", 172800, "web")]
    pass_time(cluster, timedelta(days=1))
    reclaimer(cluster).run_once()
    pass_time(cluster, timedelta(days=1))
    reclaimer(cluster).run_once()
    cluster.work()
    ended = cluster.lease(lease.id)
    assert (ended.state, ended.reason) == ("ended", "expired")


def test_a_jump_of_the_clock_takes_nothing_back_for_one_step(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = cluster.run(ttl="1h")
    steady = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: steady[0])
    taker = reclaimer(cluster)
    moments = [clock(cluster)]
    monkeypatch.setattr("scheduler.reclaim.now", lambda _: moments[0])
    taker.run_once()
    moments[0] += 3 * HOUR  # nobody's steady clock has moved
    taker.run_once()
    assert cluster.lease(lease.id).state == "running"
    told = notices_of(cluster, lease.id, "expiry")
    assert {one.deadline for one in told} == {moments[0] + FIRST}
    put_off = cluster.lease(lease.id)
    assert put_off.ends_at == moments[0] + FIRST
    assert all(notices.stands(put_off, one) for one in told), (
        "else they are void, and promised again for ever"
    )
    moments[0] += FIRST
    steady[0] += FIRST.total_seconds()
    taker.run_once()
    assert cluster.lease(lease.id).state == "stopping"


def last_lived(cluster: Cluster, at: datetime) -> None:
    """A scheduler last said then that it lives."""
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Counting).values(looked_at=at))


def test_a_scheduler_that_starts_with_another_clock_warns_first(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell a clock that is wrong at the start from hours in which no scheduler ran."""
    lease = cluster.run(ttl="1h")
    usage.run_once(cluster.sessions, Clock(cluster.sessions))
    wrong = clock(cluster) + 3 * HOUR
    moments = [wrong]
    monkeypatch.setattr("scheduler.reclaim.now", lambda _: moments[0])
    reclaimer(cluster).run_once()
    put_off = cluster.lease(lease.id)
    assert (put_off.state, put_off.ends_at) == ("running", wrong + FIRST)
    assert {one.deadline for one in notices_of(cluster, lease.id, "expiry")} == {wrong + FIRST}

    with (
        cluster.sessions.begin() as session
    ):  # over once more, before the time that everybody has after a jump
        session.execute(sa.update(Lease).values(ends_at=wrong))
    moments[0] += 2 * MINUTE
    last_lived(cluster, moments[0])
    taker = reclaimer(cluster)  # one more start, to which nothing looks wrong
    taker.run_once()
    assert cluster.lease(lease.id).ends_at == wrong + FIRST

    moments[0] = wrong - HOUR  # set back while no scheduler ran
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(ends_at=moments[0]))
    reclaimer(cluster).run_once()
    assert cluster.lease(lease.id).ends_at == moments[0] + FIRST
    moments[0] += FIRST
    last_lived(cluster, moments[0])
    reclaimer(cluster).run_once()
    assert cluster.lease(lease.id).state == "stopping"


def test_a_scheduler_that_was_away_for_moments_takes_back_at_once(cluster: Cluster) -> None:
    lease = cluster.run(ttl="1h")
    usage.run_once(cluster.sessions, Clock(cluster.sessions))
    last_lived(cluster, clock(cluster) - 30 * timedelta(seconds=1))
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(ends_at=clock(cluster)))
    reclaimer(cluster).run_once()
    assert cluster.lease(lease.id).state == "stopping"


def test_a_policy_that_only_warns_tells_once(cluster: Cluster) -> None:
    lease = cluster.run(ttl="24h")
    with cluster.sessions.begin() as session:
        session.add(Policy(name="kind", action="warn", window_seconds=600))
    quiet_since(cluster, lease, HOUR)
    for _ in range(3):
        reclaimer(cluster).run_once()
        pass_time(cluster, 30 * MINUTE)
    assert steps(notices_of(cluster, lease.id)) == [("idle", 0, "shell"), ("idle", 0, "web")]
    after = cluster.lease(lease.id)
    assert (after.state, after.reclaim_at) == ("running", None)


def test_several_reclaimers_at_once_promise_once(cluster: Cluster) -> None:
    rows = [cluster.run(idle_timeout="1h", ttl="8h") for _ in range(5)]
    for lease in rows:
        quiet_since(cluster, lease, HOUR)
    takers = [reclaimer(cluster) for _ in range(4)]
    threads = [threading.Thread(target=taker.run_once) for taker in takers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reclaimer(cluster).run_once()
    with cluster.sessions() as session:
        per = sa.select(sa.func.count(Notice.id)).group_by(Notice.lease_id)
        assert session.execute(per).scalars().all() == [2] * 5
        warned = sa.select(sa.func.count(Event.id)).where(Event.kind == "lease.warned")
        assert session.execute(warned).scalar_one() == 5


def test_a_lost_device_is_told_once_for_each_fault(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1", ttl="8h", name="train")
    for times in (1, 2):
        cluster.change(
            lease.id,
            lambda session, row, _: device_faults.tell(session, row, "GPU 0 is out of order", actor="test"),
        )
        reclaimer(cluster).run_once()
        reclaimer(cluster).run_once()
        told = notices_of(cluster, lease.id)
        assert steps(told) == [("device", 0, "shell"), ("device", 0, "web")] * times
        assert told[-1].message == "train: GPU 0 is out of order"
        cluster.change(lease.id, lambda session, row, _: device_faults.tell(session, row, "", actor="test"))
    assert cluster.lease(lease.id).state == "running"


def test_what_leases_long_ended_were_told_is_forgotten(cluster: Cluster) -> None:
    old, young, live = (
        cluster.run(gpu="1", idle_timeout="1h", ttl="8h", name=name) for name in ("old", "young", "live")
    )
    for lease in (old, young, live):
        quiet_since(cluster, lease, HOUR - FIRST)
    reclaimer(cluster).run_once()
    for lease in (old, young):
        cluster.release(lease.id)
    cluster.work()
    with cluster.sessions.begin() as session:
        session.execute(
            sa.update(Lease).where(Lease.id == old.id).values(ended_at=clock(cluster) - timedelta(days=31))
        )
        notices.prune(session, keep=timedelta(days=30), now=clock(cluster))
    assert [len(notices_of(cluster, lease.id)) for lease in (old, young, live)] == [0, 2, 2]
