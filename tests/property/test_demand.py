"""What will be asked for, over generated histories."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scheduler.policy.demand import DAY, WEEK, Asked, Hours, Shape, expected, foretold, hour_of_week

NOW = datetime(2026, 1, 5, 12, 20, tzinfo=UTC)  # a Monday
COUNTS = st.integers(1, 400).flatmap(
    lambda hours: arrays(np.float64, (hours, 2), elements=st.floats(0, 50, allow_subnormal=False))
)
FIRST = st.integers(0, WEEK - 1)


@given(COUNTS, FIRST, st.integers(1, 48))
def test_nothing_is_expected_below_nothing_or_far_above_what_was_seen(
    counts: Hours, first: int, hours: int
) -> None:
    ahead = foretold(counts, first, hours)
    assert ahead.shape == (hours, 2)
    assert np.all(ahead >= 0)
    assert np.all(ahead <= 2 * counts.max(axis=0) + 1e-9)


@given(st.integers(1, 400), FIRST, st.floats(0, 50))
def test_what_is_always_the_same_stays_so(hours: int, first: int, each: float) -> None:
    ahead = foretold(np.full((hours, 1), each), first)
    assert np.allclose(ahead, each)


@given(COUNTS, FIRST)
def test_series_do_not_touch_each_other(counts: Hours, first: int) -> None:
    alone = np.hstack([foretold(counts[:, :1], first), foretold(counts[:, 1:], first)])
    assert np.allclose(foretold(counts, first), alone)


def test_a_rhythm_of_days_and_weeks_is_found() -> None:
    hours = np.arange(8 * WEEK)
    working = (hours % WEEK // DAY < 5) & (hours % DAY >= 9) & (hours % DAY < 17)
    counts = np.where(working, 10.0, 1.0)[:, None]
    plain = Shape(of_week=1.0, of_day=1.0, carried=0.0)
    monday = foretold(counts, 0, shape=plain)[:, 0]
    saturday = foretold(counts[: 7 * WEEK + 5 * DAY], 0, shape=plain)[:, 0]
    assert monday[10] > 8
    assert monday[3] < 2
    assert saturday[10] < 4, "an hour of the day is not enough to tell"


def test_what_was_lately_more_than_usual_is_carried_on_and_fades() -> None:
    counts = np.ones((4 * WEEK, 1))
    counts[-3:] = 20.0
    ahead = foretold(counts, 0)[:, 0]
    assert ahead[0] > 5
    assert np.all(np.diff(ahead) <= 1.0)
    assert ahead[0] > ahead[12] > 1


def test_environments_are_told_apart_and_the_hour_that_is_not_over_is_left_out() -> None:
    asked = [
        Asked(NOW - timedelta(hours=back), environment, devices)
        for back in range(1, 100)
        for environment, devices in (("base", 0.0), ("pytorch", 2.0))
    ] + [Asked(NOW, "base", 9.0)] * 50
    found = expected(asked, NOW, hours=3)
    assert [one.environment for one in found] == ["base"] * 3 + ["pytorch"] * 3
    assert found[0].at == NOW.replace(minute=0)
    assert all(abs(one.requests - 1) < 1e-6 for one in found)
    assert [round(one.devices, 6) for one in found] == [0, 0, 0, 2, 2, 2]
    assert expected([], NOW) == []


def test_hours_of_the_week_begin_on_monday() -> None:
    assert hour_of_week(NOW) == 12
    assert hour_of_week(NOW - timedelta(hours=13)) == WEEK - 1
