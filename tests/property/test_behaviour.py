"""How long leases stay, over generated histories."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from scheduler.policy.behaviour import ENOUGH, Behaviour, Curve, Stay

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWNERS, ENVIRONMENTS = ("ada", "bob"), ("base", "pytorch")
STAYS = st.lists(
    st.builds(
        Stay,
        st.sampled_from(OWNERS),
        st.sampled_from(ENVIRONMENTS),
        st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0])),
        st.booleans(),
    ),
    max_size=60,
)
SPAN = st.floats(-7200, 7200)


def alike(parts: Sequence[float], *, left: bool = True, environment: str = "base") -> list[Stay]:
    return [Stay("ada", environment, part, left) for part in parts]


@given(STAYS, st.sampled_from(OWNERS), st.sampled_from(ENVIRONMENTS), SPAN, SPAN)
def test_nobody_leaves_before_now_or_after_the_deadline(
    stays: list[Stay], owner: str, environment: str, start: float, end: float
) -> None:
    started, deadline = NOW + timedelta(seconds=start), NOW + timedelta(seconds=end)
    likely = Behaviour(stays).likely_end(owner, environment, started=started, deadline=deadline, now=NOW)
    assert likely is None or NOW <= likely <= max(NOW, deadline)


@given(STAYS, st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_who_has_stayed_longer_leaves_no_sooner(stays: list[Stay], ages: list[float]) -> None:
    behaviour = Behaviour(stays)
    ends = []
    for age in sorted(ages):
        more = behaviour.likely_seconds("ada", "base", 3600, age * 3600)
        if more is None:
            return
        ends.append(age * 3600 + more)
    assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(ends))


@given(st.integers(0, 100), st.floats(0, 0.999), st.floats(60, 90_000))
def test_where_all_stayed_to_the_end_so_will_this_one(number: int, age: float, asked: float) -> None:
    likely = Behaviour(alike([1.0] * number)).likely_seconds("ada", "base", asked, age * asked)
    if number < ENOUGH:
        assert likely is None
    else:
        assert likely is not None
        assert abs(likely - asked * (1 - age)) < 1e-6 * asked


@given(STAYS)
def test_only_those_that_left_make_a_group_tell(stays: list[Stay]) -> None:
    assert Behaviour(stays).known == (sum(stay.left for stay in stays) >= ENOUGH)


@given(st.lists(st.floats(0, 1), min_size=ENOUGH, max_size=60), st.floats(0, 1))
def test_without_any_that_still_run_it_is_the_median_of_those_that_stayed_as_long(
    parts: list[float], age: float
) -> None:
    longer = sorted(part for part in parts if part > age)
    expected = longer[(len(longer) - 1) // 2] if longer else 1.0
    assert Curve(alike(parts)).leaves_by(age) == expected


def test_those_that_still_run_make_the_others_stay_longer() -> None:
    left = alike([0.1] * 10 + [0.9] * 10)
    assert Curve(left).leaves_by(0) == 0.1
    assert Curve(left + alike([0.5] * 5, left=False)).leaves_by(0) == 0.9


def test_a_group_is_asked_first_and_all_when_it_tells_too_little() -> None:
    stays = (
        [Stay("ada", "base", 0.2, True)] * 10
        + [Stay("bob", "base", 0.5, True)] * 20
        + [Stay("eve", "pytorch", 0.7, True)] * 30
        + [Stay("ada", "pytorch", 0.1, True)] * 9
    )
    behaviour = Behaviour(stays)
    likely = {
        who: behaviour.likely_seconds(*who, 100, 0)
        for who in (("ada", "base"), ("new", "base"), ("ada", "pytorch"), ("new", "new"))
    }
    assert likely == {
        ("ada", "base"): 20, ("new", "base"): 50, ("ada", "pytorch"): 70, ("new", "new"): 50,
    }  # fmt: skip


def test_of_a_lease_that_has_not_started_the_whole_time_is_ahead() -> None:
    behaviour = Behaviour(alike([0.5] * 10))
    end = behaviour.likely_end(
        "ada", "base", started=NOW + timedelta(minutes=5), deadline=NOW + timedelta(minutes=65), now=NOW
    )
    assert end == NOW + timedelta(minutes=35)
