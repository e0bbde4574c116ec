"""Hours of use are sealed once, whole, and exactly: counted from when containers ran and how devices were."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.accounting import Condition
from leasing.database import Sessions, now, sessions
from leasing.model import (
    Counting,
    DeviceHour,
    DeviceSpan,
    DeviceTotal,
    Lease,
    Run,
    RunSpan,
    RunUse,
    UsageHour,
)
from leasing.service import counting
from leasing.service.counting import NANO
from leasing.service.used import hour_of
from leasing.settings.usage import UsageSettings
from leasing.states import LeaseState
from monitoring import device_time
from scheduler.clock import Clock
from scheduler.reconcile import usage
from tests.support.past import A100, Past, past

MINUTE = 60 * NANO
HOURS = 6
CLASSES = ("leased", "held", "free", "foreign_use", "out", "unknown")


@pytest.fixture
def make(engine: sa.Engine) -> Sessions:
    return sessions(engine)


@pytest.fixture
def history(make: Sessions) -> Iterator[Past]:
    made = past(make, hours_ago=HOURS)
    yield made
    made.session.close()


def seal(make: Sessions, history: Past) -> int:
    """All that can be, as of now."""
    history.session.commit()
    total = 0
    while found := usage.run_once(make, Clock(make)):
        total += found
    return total


def leased(session: Session) -> dict[int, float]:
    """Minutes of whole devices that leases had, by the hour of the day they lie in."""
    rows = session.execute(
        sa.select(UsageHour.hour, sa.func.sum(UsageHour.allocated_ns)).group_by(UsageHour.hour)
    )
    first = session.execute(sa.select(sa.func.min(DeviceHour.hour))).scalar_one()
    return {int((hour - first) / timedelta(hours=1)): float(time) / MINUTE for hour, time in rows}


def classes(session: Session, hour: datetime) -> dict[str, float]:
    """Minutes of all devices in that hour."""
    sums = [sa.func.sum(getattr(DeviceHour, name)) for name in ("capacity", *CLASSES)]
    row = session.execute(sa.select(*sums).where(DeviceHour.hour == hour)).one()
    return {
        name: float(time) / MINUTE for name, time in zip(("capacity", *CLASSES), row, strict=True) if time
    }


def test_a_lease_counts_while_its_container_runs_and_only_then(make: Sessions, history: Past) -> None:
    gpu = history.device()
    lease = history.lease("train")
    history.run(lease, 20, 65, parts={gpu: 500}, placed=15, released=70)
    seal(make, history)
    with make() as session:
        assert leased(session) == {0: 20.0, 1: 2.5}
        assert classes(session, history.at(0)) == {"capacity": 60, "leased": 20, "held": 2.5, "free": 37.5}
        assert classes(session, history.at(60)) == {"capacity": 60, "leased": 2.5, "held": 2.5, "free": 55}
        row = (
            session.execute(sa.select(UsageHour).where(UsageHour.model == "").order_by(UsageHour.hour))
            .scalars()
            .first()
        )
        assert row is not None
        assert (row.ran_ns, row.cpu_allocated_ns) == (40 * MINUTE, 80 * MINUTE)
        assert (row.used_seconds, row.measured_seconds) == (None, 0)


def test_every_hour_is_sealed_once_and_nothing_is_left_to_do(make: Sessions, history: Past) -> None:
    gpu = history.device()
    history.run(history.lease("train"), 0, 150, parts={gpu: 1000})
    sealed = seal(make, history)
    assert sealed >= HOURS - 1
    with make() as session:
        before = session.execute(sa.select(sa.func.sum(UsageHour.allocated_ns))).scalar_one()
        assert float(before) == 150 * MINUTE
    assert usage.run_once(make, Clock(make)) == 0
    with make() as session:
        assert session.execute(sa.select(sa.func.sum(UsageHour.allocated_ns))).scalar_one() == before


def test_what_is_sealed_hour_by_hour_is_what_is_counted_at_once(make: Sessions, history: Past) -> None:
    devices = [history.device(), history.device(since=33), history.device(model="NVIDIA H100")]
    for number in range(6):
        lease = history.lease(f"l{number}", owner=f"user{number % 2}")
        share = [250, 500, 1000][number % 3]
        history.run(lease, 7 * number, 40 * number + 9, parts={devices[number % 3]: share}, placed=5 * number)
    history.was(devices[0], Condition.FOREIGN, 100)
    history.was(devices[0], Condition.FREE, 170)
    until = history.at(180)
    with make() as session:
        history.session.commit()
        once = counting.count(session, {history.node.id: history.began}, until=until, now=now(session))
    seal(make, history)
    with make() as session:
        rows = session.execute(sa.select(UsageHour).where(UsageHour.hour < until)).scalars().all()
        assert {(row.run_id, row.hour, row.model): row.allocated_ns for row in rows} == {
            (row["run_id"], row["hour"], row["model"]): row["allocated_ns"] for row in once.runs
        }
        kept = session.execute(sa.select(DeviceHour).where(DeviceHour.hour < until)).scalars().all()
        for one in kept:
            assert sum(getattr(one, name) for name in CLASSES) == one.capacity
        had = sum(row.allocated_ns for row in rows)
        assert had == sum(one.leased for one in kept) <= sum(one.capacity for one in kept)


def test_a_scheduler_that_is_killed_while_it_seals_has_sealed_nothing(
    make: Sessions, history: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = history.device()
    history.run(history.lease("train"), 0, 90, parts={gpu: 1000})
    history.session.commit()

    def killed(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(usage.log, "info", killed)  # the last thing before the commit
        with pytest.raises(ZeroDivisionError):
            usage.run_once(make, Clock(make))
    with make() as session:
        assert session.execute(sa.select(sa.func.count()).select_from(UsageHour)).scalar_one() == 0
        assert session.execute(sa.select(Counting.sealed_until)).scalar_one() == history.began
    seal(make, history)
    with make() as session:
        assert leased(session) == {0: 60, 1: 30}


def test_two_schedulers_seal_no_hour_twice(make: Sessions, history: Past) -> None:
    gpu = history.device()
    history.run(history.lease("train"), 0, 300, parts={gpu: 1000})
    history.session.commit()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: usage.run_once(make, Clock(make)), range(8)))
    seal(make, history)
    with make() as session:
        assert session.execute(sa.select(sa.func.sum(UsageHour.allocated_ns))).scalar_one() == 300 * MINUTE
        total = session.execute(sa.select(DeviceTotal.leased)).scalar_one()
        assert total == 300 * MINUTE


def test_an_hour_waits_for_a_container_of_which_nobody_knows(make: Sessions, history: Past) -> None:
    """The engine was last compared at minute 30: whether the container lived after that is not known yet."""
    gpu = history.device()
    lease = history.lease("train", state=LeaseState.RUNNING)
    run = history.run(lease, 10, None, parts={gpu: 1000})
    history.session.execute(sa.update(Counting).values(compared_at=history.at(30)))
    assert seal(make, history) == 0
    with make() as session:
        live = counting.unsealed(session, since=history.began, until=now(session), now=now(session))
        assert sum(row["allocated_ns"] for row in live.runs) == 20 * MINUTE
    with make.begin() as session:  # the engine is back, and says when it died
        session.get_one(Run, run.id).stopped_at = history.at(75)
    assert seal(make, history) >= HOURS - 1
    with make() as session:
        assert leased(session) == {0: 50, 1: 15}


def test_a_container_that_is_known_to_run_does_not_hold_up_an_hour(make: Sessions, history: Past) -> None:
    gpu = history.device()
    history.run(history.lease("train", state=LeaseState.RUNNING), 10, None, parts={gpu: 1000})
    assert seal(make, history) >= HOURS - 1
    with make() as session:
        assert leased(session)[0] == 50
        assert leased(session)[1] == 60


def test_a_lease_that_is_being_stopped_holds_up_the_hour_until_it_is(make: Sessions, history: Past) -> None:
    gpu = history.device()
    lease = history.lease("train", state=LeaseState.RUNNING)
    run = history.run(lease, 10, None, parts={gpu: 1000})
    history.session.execute(sa.update(Lease).values(state="stopping", goal="ended"))
    assert seal(make, history) == 0
    with make.begin() as session:
        session.get_one(Run, run.id).stopped_at = history.at(20)
    seal(make, history)
    with make() as session:
        assert leased(session) == {0: 10}


def test_each_time_that_a_restarted_run_ran_counts(make: Sessions, history: Past) -> None:
    gpu = history.device()
    run = history.run(history.lease("train", state=LeaseState.RUNNING), 0, None, parts={gpu: 1000})
    run.stopped_at = history.at(20)  # its engine went down
    history.session.flush()
    run.started_at, run.stopped_at = history.at(50), None
    history.session.flush()
    run.stopped_at = run.released_at = history.at(70)
    history.session.execute(sa.text("UPDATE allocation SET released_at = :at"), {"at": history.at(70)})
    seal(make, history)
    with make() as session:
        assert leased(session) == {0: 30, 1: 10}
        assert classes(session, history.at(0)) == {"capacity": 60, "leased": 30, "held": 30}


def test_a_lease_that_ends_as_it_starts_has_used_nothing(make: Sessions, history: Past) -> None:
    gpu = history.device()
    history.run(history.lease("brief"), 30, 30, parts={gpu: 1000})
    seal(make, history)
    with make() as session:
        assert session.execute(sa.select(UsageHour)).first() is None
        assert classes(session, history.at(0)) == {"capacity": 60, "free": 60}


def test_an_engine_whose_clock_is_ahead_ends_nothing_in_the_future(make: Sessions, history: Past) -> None:
    run = history.run(history.lease("train", state=LeaseState.RUNNING), 0, None)
    run.stopped_at = history.at(60 * 24 * 30)
    history.session.commit()
    with make() as session:
        until = session.execute(sa.select(RunSpan.until)).scalar_one()
        assert until is not None
        assert until <= now(session)


def test_a_device_that_vanishes_has_no_capacity_after_that(make: Sessions, history: Past) -> None:
    gpu = history.device(since=15)
    history.was(gpu, Condition.ABSENT, 45)
    history.was(gpu, Condition.FREE, 90)
    seal(make, history)
    with make() as session:
        assert classes(session, history.at(0)) == {"capacity": 30, "free": 30}
        assert classes(session, history.at(60)) == {"capacity": 30, "free": 30}


def test_a_parent_counts_through_its_instances(make: Sessions, history: Past) -> None:
    history.device(condition=Condition.ABSENT)
    history.device(model="NVIDIA A100 MIG 3g.40gb")
    history.device(model="NVIDIA A100 MIG 3g.40gb", condition=Condition.CORDONED)
    seal(make, history)
    with make() as session:
        assert classes(session, history.at(0)) == {"capacity": 120, "free": 60, "out": 60}


def sealed_until(make: Sessions) -> datetime:
    with make() as session:
        return session.execute(sa.select(Counting.sealed_until)).scalar_one()


@pytest.mark.parametrize("starts", [True, False], ids=["at the start", "while it runs"])
def test_no_hour_to_come_is_sealed_while_a_clock_is_ahead(
    make: Sessions, history: Past, monkeypatch: pytest.MonkeyPatch, *, starts: bool
) -> None:
    history.device()
    with make() as session:
        moments, steady = [now(session)], [0.0]
    monkeypatch.setattr("time.monotonic", lambda: steady[0])
    monkeypatch.setattr("scheduler.reconcile.usage.now", lambda _: moments[0])
    seal(make, history)
    before = sealed_until(make)
    clock = Clock(make)
    if not starts:
        clock.watch(moments[0])
    moments[0] += timedelta(hours=8)
    assert usage.run_once(make, clock) == 0
    assert usage.run_once(make, Clock(make)) == 0, "one more start, to which nothing looks wrong"
    moments[0] -= timedelta(hours=8)
    assert usage.run_once(make, clock) == 0
    assert sealed_until(make) == before

    moments[0] += timedelta(hours=1)
    steady[0] += 3600
    assert usage.run_once(make, clock) == 1
    assert sealed_until(make) == before + timedelta(hours=1)


def test_after_a_time_without_a_scheduler_hours_are_sealed_once_the_clock_is_steady(
    make: Sessions, history: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.device()
    seal(make, history)
    with make() as session:
        moments = [now(session) + timedelta(hours=3)]
    monkeypatch.setattr("scheduler.reconcile.usage.now", lambda _: moments[0])
    assert usage.run_once(make, Clock(make)) == 0
    for sealed in (False, True):
        moments[0] += usage.STEADY / 2
        with make.begin() as session:  # looked at all the time
            session.execute(sa.update(Counting).values(looked_at=moments[0]))
        assert bool(usage.run_once(make, Clock(make))) is sealed
    assert sealed_until(make) == hour_of(moments[0] - usage.SETTLE)


def test_nobody_is_counted_twice_when_a_clock_was_moved_back(make: Sessions, history: Past) -> None:
    gpu = history.device()
    history.run(history.lease("first"), 0, 50, parts={gpu: 1000})
    history.run(history.lease("second"), 40, 60, parts={gpu: 1000})
    seal(make, history)
    with make() as session:
        assert leased(session) == {0: 60}
        assert classes(session, history.at(0)) == {"capacity": 60, "leased": 60}


def test_what_was_measured_stands_beside_what_was_allocated(make: Sessions, history: Past) -> None:
    gpu = history.device()
    run = history.run(history.lease("train"), 0, 60, parts={gpu: 1000})
    history.used(run, 0, A100, measured=1800, used=450)
    history.used(run, 0, "", measured=3600, used=900, memory=5.0)
    seal(make, history)
    with make() as session:
        rows = {row.model: row for row in session.execute(sa.select(UsageHour)).scalars()}
        assert (rows[A100].measured_seconds, rows[A100].used_seconds) == (1800, 450)
        assert (rows[""].used_seconds, rows[""].memory_used_byte_seconds) == (900, 5)
        assert session.execute(sa.select(RunUse)).first() is None


def test_what_was_counted_from_goes_once_it_is_sealed_and_hours_stay(make: Sessions, history: Past) -> None:
    gpu = history.device()
    history.run(history.lease("train"), 0, 90, parts={gpu: 1000})
    history.was(gpu, Condition.CORDONED, 100)
    seal(make, history)
    with make.begin() as session:
        later = now(session) + timedelta(days=31)
        usage.prune(session, UsageSettings(), now=later)
        assert session.execute(sa.select(RunSpan)).first() is None
        spans = session.execute(sa.select(DeviceSpan.condition).order_by(DeviceSpan.since)).scalars().all()
        assert spans == ["cordoned", "free"]  # it was looked at just now, and is not cordoned any more
        assert leased(session) == {0: 60, 1: 30}
        usage.prune(session, UsageSettings(), now=later + timedelta(days=730))
        assert session.execute(sa.select(UsageHour)).first() is None
        assert session.execute(sa.select(DeviceTotal.leased)).scalar_one() == 90 * MINUTE


def test_days_of_downtime_are_caught_up_with_in_bounded_passes(make: Sessions) -> None:
    history = past(make, hours_ago=60)
    history.device(condition=None)
    history.session.commit()
    history.session.close()
    assert usage.run_once(make, Clock(make)) == usage.BATCH
    assert 60 - usage.BATCH - 1 <= usage.run_once(make, Clock(make)) <= 60 - usage.BATCH
    assert usage.run_once(make, Clock(make)) == 0


def test_prometheus_counts_the_classes_of_sealed_hours(make: Sessions, history: Past) -> None:
    gpu = history.device()
    history.device(condition=Condition.ABSENT)
    history.run(history.lease("train"), 0, 90, parts={gpu: 500})
    seal(make, history)
    with make() as session:
        found = {
            (sample.labels["uuid"], sample.labels["class"]): sample.value
            for family in device_time.collect(session)
            for sample in family.samples
            if sample.name == "leasing_device_seconds_total"
        }
    assert found["GPU-0", "leased"] == 90 * 60 / 2
    assert sum(value for (uuid, _), value in found.items() if uuid == "GPU-0") >= (HOURS - 1) * 3600
    assert {value for (uuid, _), value in found.items() if uuid == "GPU-1"} == {0}
