"""Learned windows, over generated gaps: never worse than any fixed one on what was seen, and always within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.policy.windows import ENOUGH, WAKE_SECONDS, Gaps, best

SECONDS = st.floats(1, 1e5)
GAPS = st.lists(st.tuples(SECONDS, st.floats(0.01, 10)), min_size=1, max_size=40)


def returned(gaps: list[tuple[float, float]], window: float) -> float:
    return sum(weight * (seconds - window - WAKE_SECONDS) for seconds, weight in gaps if seconds > window)


@given(GAPS, st.floats(0, 5000), st.floats(0, 5000), st.floats(0, 5000))
def test_no_fixed_window_within_the_bounds_would_have_returned_more(
    gaps: list[tuple[float, float]], one: float, other: float, rival: float
) -> None:
    least, most = sorted((one, other))
    found = best(
        np.array([seconds for seconds, _ in gaps]), np.array([weight for _, weight in gaps]),
        least=least, most=most, wake_seconds=WAKE_SECONDS,
    )  # fmt: skip
    assert least <= found <= most
    rivals = [min(max(rival, least), most), least, most]
    value = returned(gaps, found)
    assert all(value >= returned(gaps, other) - 1e-3 for other in rivals)


def learned(*gaps: float, group: str = "ada", others: tuple[float, ...] = ()) -> float:
    seen = Gaps()
    for seconds in others:
        seen.add("others", seconds)
    for seconds in gaps:
        seen.add(group, seconds)
    found = seen.learned(group, least=60, most=3600)
    assert found is not None
    return found.seconds


def test_it_waits_as_long_as_short_gaps_last_and_no_longer() -> None:
    assert learned(*[100.0, 7200.0] * 20) == 100
    assert learned(*[7200.0] * 20) == 60
    assert learned(*[200.0] * 20) == 3600, "nothing to be had: it is not disturbed"


def test_the_latest_count_most() -> None:
    assert learned(*[200.0] * 60, *[7200.0] * 40) == 60


def test_of_few_gaps_what_is_usual_decides_and_of_many_their_own() -> None:
    usual = (100.0, 7200.0) * 60
    assert learned(4000.0, others=usual) == 100
    assert learned(*[200.0, 200.0, 200.0, 7200.0] * 60, others=usual) == 200


def test_nothing_is_learned_from_little() -> None:
    seen = Gaps()
    for _ in range(ENOUGH - 1):
        seen.add("ada", 7200)
    assert seen.learned("ada", least=60, most=3600) is None
    seen.add("ada", 7200)
    found = seen.learned("ada", least=60, most=3600)
    assert found is not None
    assert found.gaps == ENOUGH


@pytest.mark.parametrize("group", ["ada", "nobody"])
def test_what_is_learned_is_within_its_bounds(group: str) -> None:
    seen = Gaps()
    for seconds in [10.0, 30.0, 1e6] * 20:
        seen.add("ada", seconds)
    found = seen.learned(group, least=120, most=130)
    assert found is not None
    assert 120 <= found.seconds <= 130
