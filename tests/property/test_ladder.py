"""The warning ladder, played through at random: late passes, sleep, moved deadlines, changed policies, moved clocks."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from leasing.reclaim import Hours, Told
from scheduler.policy.ladder import NEAR, climb, count_down

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
STEPS = st.lists(st.integers(10, 3600), max_size=4)
PAUSES = st.lists(
    st.one_of(st.integers(0, 30), st.integers(30, 900), st.integers(3600, 40_000)), min_size=1, max_size=60
)
OFFICE = Hours(frozenset(range(5)), time(9), time(18), ZoneInfo("Europe/Zurich"))
NIGHT = Hours(frozenset(range(7)), time(22), time(6), ZoneInfo("Asia/Tokyo"))


@given(
    steps=STEPS,
    pauses=PAUSES,
    window=st.integers(-90_000, 9000),
    shifts=st.dictionaries(st.integers(0, 59), st.integers(-9000, 9000), max_size=3),
    other=st.tuples(st.integers(0, 59), STEPS),
    hours=st.sampled_from([None, None, OFFICE, NIGHT]),
    frozen=st.none() | st.integers(0, 20_000),
    lead=st.integers(0, 10),
)
def test_nothing_is_taken_back_before_every_promised_warning_was_given_early_enough(
    steps: list[int],
    pauses: list[int],
    window: int,
    shifts: dict[int, int],
    other: tuple[int, list[int]],
    hours: Hours | None,
    frozen: int | None,
    lead: int,
) -> None:
    now, target = NOW, NOW + window * SECOND
    thaw = None if frozen is None else NOW + frozen * SECOND
    ledger: dict[int, list[Told]] = {}
    for turn, pause in enumerate(pauses):
        now += pause * SECOND
        target += shifts.get(turn, 0) * SECOND
        if turn == other[0]:
            steps = other[1]
        told = {step: given[-1] for step, given in ledger.items()}
        freeze = thaw if thaw is not None and now < thaw else None
        rung = climb(target, steps, told, now, hours=hours, frozen_until=freeze, lead=lead * SECOND)
        assert rung.deadline >= target
        assert set(rung.due) <= set(steps)
        if rung.over:
            assert not rung.due
            assert freeze is None
            assert now >= rung.deadline
            assert hours is None or not hours.cover(rung.deadline)
            for step in steps:
                given_then = [one for one in ledger.get(step, []) if now - one.at >= step * SECOND]
                assert given_then, f"taken back without the warning {step} s before"
                assert abs(given_then[-1].deadline - now) <= 2 * NEAR + timedelta(
                    seconds=max(steps, default=0)
                )
            return
        for step in rung.due:
            assert rung.deadline - now >= step * SECOND, "it could be taken back sooner than the warning says"
            ledger.setdefault(step, []).append(Told(now, rung.deadline))


@given(steps=STEPS, window=st.integers(0, 9000), every=st.integers(1, 30))
def test_who_looks_in_time_takes_back_on_time(steps: list[int], window: int, every: int) -> None:
    """With passes closer together than the lead no deadline moves, and each warning is given once."""
    begin = NOW - timedelta(seconds=max(steps, default=0) + 60)
    target = NOW + window * SECOND
    told: dict[int, Told] = {}
    now = begin
    while True:
        rung = climb(target, steps, told, now, lead=timedelta(seconds=every))
        if rung.over:
            break
        for step in rung.due:
            assert step not in told
            told[step] = Told(now, rung.deadline)
        assert rung.deadline == target
        now += every * SECOND
    assert set(told) == set(steps)
    assert target <= now < target + every * SECOND


def test_equality_counts_as_due() -> None:
    target = NOW + 300 * SECOND
    assert climb(target, [300], {}, NOW).due == (300,)
    told = {300: Told(NOW, target)}
    assert not climb(target, [300], told, target - SECOND).over
    assert climb(target, [300], told, target).over


def test_asleep_for_hours_is_told_anew_from_the_first_step() -> None:
    target = NOW + 900 * SECOND
    told = {900: Told(NOW, target), 300: Told(NOW + 600 * SECOND, target)}
    late = target + timedelta(hours=3)
    rung = climb(target, [900, 300], told, late)
    assert (rung.over, rung.due, rung.deadline) == (False, (900,), late + 900 * SECOND)


def test_a_deadline_that_moved_is_told_anew() -> None:
    """A longer window, working hours that were set: warnings of another moment are none of this one."""
    told = {900: Told(NOW, NOW + 900 * SECOND), 300: Told(NOW + 600 * SECOND, NOW + 900 * SECOND)}
    target = NOW + timedelta(hours=3)
    early = climb(target, [900, 300], told, NOW + 700 * SECOND)
    assert (early.deadline, early.due, early.warned) == (target, (), False)
    assert climb(target, [900, 300], told, target - 900 * SECOND).due == (900,)


def test_working_hours_put_it_off_to_their_end() -> None:
    monday = datetime(2026, 11, 23, 10, tzinfo=UTC)
    rung = climb(monday, [900], {}, monday - timedelta(hours=2), hours=OFFICE)
    assert rung.deadline == datetime(2026, 11, 23, 17, tzinfo=UTC)
    assert rung.due == ()


@given(
    steps=STEPS, lasts=st.integers(1, 9000), pauses=PAUSES, lead=st.integers(0, 10),
)  # fmt: skip
def test_time_is_over_when_it_is_over(steps: list[int], lasts: int, pauses: list[int], lead: int) -> None:
    now, ends = NOW, NOW + lasts * SECOND
    told: dict[int, Told] = {}
    for pause in pauses:
        now += pause * SECOND
        rung = count_down(ends, steps, told, now, since=NOW, lead=lead * SECOND)
        assert rung.deadline == ends
        assert rung.over == (now >= ends)
        assert len(rung.due) <= 1
        for step in rung.due:
            assert step < lasts, "no warning of a longer step than all its time"
            assert step not in told
            told[step] = Told(now, ends)
