"""What a policy would have done: quiet times by the judge, the ladder on them, and a window that is learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasing.errors import Invalid
from leasing.reclaim import Hours, Rule
from leasing.settings.idle import IdleSettings
from leasing.states import ReclaimAction
from scheduler.policy.quiet import Watched
from scheduler.policy.replay import MINUTE, Minute
from scheduler.policy.trials import Quiet, climbed, quiet_times
from scheduler.simulation import reclaims

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
RULE = Rule(window_seconds=1800, warnings=(900, 300), grace_seconds=0)
THRESHOLDS = IdleSettings().thresholds()


def minutes(story: str) -> Iterator[Minute]:
    """`x` is a busy minute, `.` a quiet one, `?` one that was not known."""
    for number, sign in enumerate(story):
        known = {"?": {}, "x": {"cpu": 1.0}, ".": {"cpu": 0.0}}[sign]
        yield Minute(MONDAY + number * MINUTE, known)


def quiet(story: str, rule: Rule = RULE) -> list[tuple[float, float, bool]]:
    found = quiet_times(
        list(minutes(story)), rule, thresholds=THRESHOLDS, applicable={"cpu"}, started_at=MONDAY
    )
    return [((one.since - MONDAY) / MINUTE, (one.until - MONDAY) / MINUTE, one.back) for one in found]


def test_a_quiet_time_ends_with_activity_and_is_none_while_anything_is_unknown() -> None:
    assert quiet("xx....x..?..x...") == [(2, 6, True), (7, 9, False), (10, 12, True), (13, 16, False)]
    assert quiet("?????") == quiet("xxxx") == quiet("") == []
    assert quiet("......x", replace(RULE, grace_seconds=180)) == [(3, 6, True)]


@given(st.text("x.?", max_size=40), st.integers(0, 600))
def test_gaps_that_come_in_by_the_minute_are_those_that_the_judge_finds(story: str, grace: int) -> None:
    watched = Watched()
    found = [
        seconds
        for minute in minutes(story)
        if (
            seconds := watched.see(
                minute, limits=THRESHOLDS, applicable={"cpu"}, counted_from=MONDAY + timedelta(seconds=grace)
            )
        )
    ]
    judged = quiet(story, replace(RULE, grace_seconds=grace))
    whole = [round((end - begin) * 60) for begin, end, back in judged if back]
    assert [one for one in found if one >= 60] == whole


def lasting(minutes: float, begin: datetime = MONDAY, *, back: bool = True) -> Quiet:
    return Quiet(begin, begin + timedelta(minutes=minutes), back)


def test_a_lease_is_taken_back_after_its_window_and_its_warnings() -> None:
    done = climbed(lasting(60), RULE)
    assert done.taken == MONDAY + timedelta(minutes=30)
    assert done.warned == (MONDAY + timedelta(minutes=15), MONDAY + timedelta(minutes=25))
    assert (done.returned_seconds, done.woken) == (1800, True)
    assert climbed(lasting(29.9), RULE).taken is None
    assert not climbed(lasting(60, back=False), RULE).woken


def test_a_window_that_is_shorter_than_its_first_warning_waits_for_it() -> None:
    done = climbed(lasting(60), replace(RULE, window_seconds=60))
    assert done.taken == MONDAY + timedelta(minutes=15)
    assert done.warned[0] == MONDAY


def test_who_is_only_told_or_never_idle_is_not_taken_back() -> None:
    told = climbed(lasting(600), replace(RULE, action=ReclaimAction.WARN))
    assert (told.taken, len(told.warned)) == (None, 2)
    assert climbed(lasting(600), replace(RULE, window_seconds=0)).warned == ()


def test_working_hours_put_it_off_to_their_end() -> None:
    hours = Hours(frozenset(range(5)), time(9), time(18), ZoneInfo("UTC"))
    done = climbed(lasting(24 * 60, MONDAY + 9 * HOUR), replace(RULE, hours=hours))
    assert done.taken == MONDAY + 18 * HOUR
    assert done.warned == (MONDAY + 17.75 * HOUR, MONDAY + 18 * HOUR - timedelta(minutes=5))


@given(st.integers(60, 90_000), st.lists(st.integers(1, 7200), max_size=4), st.floats(1, 3000), st.booleans())
def test_nothing_is_ever_taken_back_before_its_window_or_without_its_warnings(
    window: int, warnings: list[int], length: float, hours: bool
) -> None:
    rule = Rule(
        window_seconds=window,
        warnings=tuple(sorted(set(warnings), reverse=True)),
        hours=Hours(frozenset({0, 1}), time(22), time(6), ZoneInfo("Europe/Berlin")) if hours else None,
    )
    done = climbed(lasting(length), rule)
    if done.taken is None:
        return
    assert MONDAY + timedelta(seconds=window) <= done.taken < done.quiet.until
    assert rule.hours is None or not rule.hours.cover(done.taken)
    for step in rule.warnings:
        assert any(done.taken - warned >= timedelta(seconds=step) for warned in done.warned)


def case(name: str, story: str, **facts: object) -> reclaims.Case:
    stay = reclaims.Stay(MONDAY, frozenset({"cpu"}), list(minutes(story)))
    made = reclaims.Case(name, "ada", "default", "base", 2.0, None, Rule(grace_seconds=0), [stay])
    return replace(made, **facts)  # type: ignore[arg-type]  # the fields of a case


def play(found: list[reclaims.Case], tried: Rule | None) -> reclaims.Told:
    return reclaims.play(found, THRESHOLDS, tried=tried, least=60, soon=timedelta(minutes=20))


def test_what_it_would_have_done_is_told_by_lease_and_user() -> None:
    found = [case("a", "x" + "." * 45 + "x"), case("b", "x" + "." * 60, owner="bob")]
    now, tried = play(found, None), play(found, RULE)
    assert (now.all.taken, tried.all.taken) == (0, 2)
    assert tried.leases["a"].returned_device_hours == pytest.approx(0.5)
    assert (tried.leases["a"].woken, tried.leases["a"].surprised) == (1, 1)
    assert (tried.owners["bob"].woken, tried.owners["bob"].returned_device_hours) == (0, 1.0)
    assert tried.leases["a"].times[0].back_at == MONDAY + 46 * MINUTE
    assert play([case("a", "x" + "." * 600, asked=0)], RULE).all.taken == 0, "it asked to be left alone"
    assert play([case("a", "x" + "." * 600, asked=0)], replace(RULE, longest_seconds=1800)).all.taken == 1


def test_a_learned_window_comes_from_what_was_before_alone() -> None:
    story = "x" + ("." * 40 + "x") * 40
    rule = replace(RULE, learned=True, window_seconds=3600, warnings=())
    later = case("later", story)
    told = play([later], rule)
    first = [round((one.at - one.idle_since) / MINUTE) for one in told.leases["later"].times]
    assert len(first) == 40 - 20, "not before enough is known"
    assert set(first) == {1}, "gaps that always last are worth taking back at once"
    longer = play([case("later", story + "x." * 500)], rule)
    assert longer.leases["later"].times[:20] == told.leases["later"].times, "what comes later changes nothing"


def test_a_series_is_read_or_the_line_named() -> None:
    head = "pod,seconds,duty_percent\n"
    [one] = reclaims.series([head, "p,0,50\n", "p,57,0\n", "p,200,0\n", "p,9000,10\n"])
    assert [len(stay.minutes) for stay in one.stays] == [4, 1]
    assert [minute.peaks["gpu"] for minute in one.stays[0].minutes] == [0.5, 0.5, 0.5, 0.0]
    for bad, said in (
        (["a,b\n"], "first line"), ([head, "p,x,1\n"], "Line 2"), ([head, "p,1\n"], "Line 2"),
        ([head, "p,1,nan\n"], "range"), ([head, "p,-1,0\n"], "range"), ([head, "p,1e12,0\n"], "range"), ([], "first"),
    ):  # fmt: skip
        with pytest.raises(Invalid, match=said):
            reclaims.series(bad)
