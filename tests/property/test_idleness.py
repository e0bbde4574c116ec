"""Idle is only who was known to be quiet, by every signal that applies, for the whole window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from leasing.reading import FRESH, Reading
from leasing.reclaim import Rule
from leasing.states import Verdict
from scheduler.policy.idleness import Judgement, judge
from scheduler.policy.replay import MINUTE, Minute, replay

BEGIN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KINDS = ("cpu", "gpu", "terminal")
LIMITS = dict.fromkeys(KINDS, 1.0)
STEP, UNTIL = 10, 600
FEW = settings(max_examples=40)


@dataclass(frozen=True)
class Sample:
    """One reading of one signal, `at` seconds after the beginning."""

    at: int
    kind: str
    value: float


def take(readings: dict[str, Reading], sample: Sample) -> None:
    """As `leasing.service.signals.observe` writes it."""
    moment = BEGIN + timedelta(seconds=sample.at)
    old = readings.get(sample.kind)
    gap = old is None or old.seen_at < moment - FRESH or old.seen_at > moment + FRESH
    active = moment if sample.value >= LIMITS[sample.kind] else None
    readings[sample.kind] = Reading(
        known_since=moment if old is None or gap else old.known_since,
        seen_at=moment,
        active_at=active or (old.active_at if old else None),
        value=sample.value,
    )


def verdict(samples: Sequence[Sample], now: int, rule: Rule) -> Judgement:
    """What is said `now` of what was heard until then, in the order in which it came."""
    readings: dict[str, Reading] = {}
    for sample in samples:
        if sample.at <= now:
            take(readings, sample)
    return judge(
        KINDS,
        readings,
        started_at=BEGIN,
        now=BEGIN + timedelta(seconds=now),
        window=timedelta(seconds=rule.window_seconds),
        grace=timedelta(seconds=rule.grace_seconds),
    )


def quiet(until: int) -> list[Sample]:
    return [Sample(at, kind, 0.0) for at in range(0, until + 1, STEP) for kind in KINDS]


@st.composite
def histories(draw: st.DrawFn, until: int = UNTIL) -> list[Sample]:
    """Steady quiet readings, of which some are missing for a while and some are active."""
    samples = quiet(until)
    for _ in range(draw(st.integers(0, 4))):
        kind, begin = draw(st.sampled_from(KINDS)), draw(st.integers(0, until))
        end = begin + draw(st.sampled_from([1, STEP, 29, 31, 60, 300]))
        if draw(st.booleans()):
            samples = [one for one in samples if one.kind != kind or not begin <= one.at < end]
        else:
            samples = [
                replace(one, value=2.0) if one.kind == kind and begin <= one.at < end else one
                for one in samples
            ]
    return samples


RULES = st.builds(
    Rule,
    window_seconds=st.sampled_from([60, 120, 300]),
    grace_seconds=st.sampled_from([0, 60, 200]),
)


def certainly_quiet(samples: Sequence[Sample], now: int, rule: Rule) -> bool:
    """By the definition: each signal was heard without a gap over the whole window, and never active in it."""
    begin = now - rule.window_seconds
    if begin < rule.grace_seconds:
        return False
    for kind in KINDS:
        heard = sorted(one.at for one in samples if one.kind == kind and one.at <= now)
        edges = [max((at for at in heard if at <= begin), default=-1000)]
        edges += [at for at in heard if at > begin] + [now]
        if any(after - before > FRESH.total_seconds() for before, after in pairwise(edges)):
            return False
        if any(one.value >= 1 for one in samples if one.kind == kind and begin < one.at <= now):
            return False
    return True


@FEW
@given(histories(), RULES, st.integers(0, UNTIL))
def test_idle_is_exactly_who_was_known_to_be_quiet_throughout(
    samples: list[Sample], rule: Rule, now: int
) -> None:
    said = verdict(samples, now, rule)
    if said.verdict is Verdict.IDLE:
        assert certainly_quiet(samples, now, rule)
        assert said.since is not None
        assert said.since <= BEGIN + timedelta(seconds=now - rule.window_seconds)
    elif certainly_quiet(samples, now, rule):
        # heard steadily before the window too, or what went before is not known to have been quiet
        assert said.since is not None
        assert said.since > BEGIN + timedelta(seconds=now - rule.window_seconds)


@FEW
@given(
    histories(),
    RULES,
    st.integers(0, UNTIL),
    st.sampled_from(KINDS),
    st.integers(31, 300),
    st.integers(0, 300),
)
def test_a_gap_never_makes_anybody_idle(
    samples: list[Sample], rule: Rule, now: int, kind: str, length: int, ago: int
) -> None:
    begin = now - ago - length
    fewer = [one for one in samples if one.kind != kind or not begin <= one.at < begin + length]
    if verdict(fewer, now, rule).verdict is Verdict.IDLE:
        assert verdict(samples, now, rule).verdict is Verdict.IDLE


@FEW
@given(histories(), RULES, st.integers(0, UNTIL))
def test_who_is_idle_in_a_window_is_idle_in_every_shorter_one(
    samples: list[Sample], rule: Rule, now: int
) -> None:
    if verdict(samples, now, rule).verdict is Verdict.IDLE:
        assert verdict(samples, now, replace(rule, window_seconds=30)).verdict is Verdict.IDLE


@FEW
@given(histories(), RULES, st.integers(0, UNTIL), st.randoms())
def test_readings_of_different_signals_may_come_in_any_order(
    samples: list[Sample], rule: Rule, now: int, dice: object
) -> None:
    by_kind = {kind: [one for one in samples if one.kind == kind] for kind in KINDS}
    dice.shuffle(order := list(KINDS))  # type: ignore[attr-defined]  # a Random
    mixed = [one for kind in order for one in by_kind[kind]]
    assert verdict(mixed, now, rule) == verdict(samples, now, rule)


@FEW
@given(histories(), RULES, st.integers(100, UNTIL), st.sampled_from([-3600, -60, 3600]))
def test_a_clock_that_jumps_never_makes_anybody_idle(
    samples: list[Sample], rule: Rule, now: int, jump: int
) -> None:
    """The last reading of one signal is stamped wrongly, and the judge's own clock is right."""
    last = max(
        (one for one in samples if one.kind == "cpu" and one.at <= now), key=lambda one: one.at, default=None
    )
    readings: dict[str, Reading] = {}
    for one in samples:
        if one.at <= now:
            take(readings, replace(one, at=one.at + jump) if one is last else one)
    said = judge(
        KINDS, readings, started_at=BEGIN, now=BEGIN + timedelta(seconds=now),
        window=timedelta(seconds=rule.window_seconds),
    )  # fmt: skip
    assert said.verdict is not Verdict.IDLE


def recorded(samples: Sequence[Sample], until: int) -> list[Minute]:
    """As `leasing.service.activity.record` writes it: peaks of what was heard without a gap until the next minute."""
    found = []
    for begin in range(0, until - 60, 60):
        peaks = {}
        for kind in KINDS:
            readings: dict[str, Reading] = {}
            own = [one for one in samples if one.kind == kind and one.at <= begin + 60 + 32]
            for one in own:
                take(readings, one)
            within = [one.value for one in own if begin <= one.at < begin + 60]
            known = readings.get(kind)
            if (
                within
                and known is not None
                and known.known_since <= BEGIN + timedelta(seconds=begin)
                and known.seen_at >= BEGIN + timedelta(seconds=begin + 60)
            ):
                peaks[kind] = max(within)
        found.append(Minute(BEGIN + timedelta(seconds=begin), peaks))
    return found


@FEW
@given(histories(), RULES)
def test_a_replay_says_what_was_said_or_idle_a_minute_later(samples: list[Sample], rule: Rule) -> None:
    minutes = recorded(samples, UNTIL)
    whole = {minute.at for minute in minutes if minute.peaks.keys() >= set(KINDS)}
    spans = replay(minutes, rule, thresholds=LIMITS, applicable=KINDS, started_at=BEGIN)
    assert spans[0].begin == BEGIN
    assert all(one.end == after.begin for one, after in pairwise(spans))
    for span in spans:
        end = span.begin
        while (end := end + MINUTE) <= span.end:
            now = int((end - BEGIN).total_seconds())
            said = verdict([one for one in samples if one.at < now], now, rule)
            if span.verdict is Verdict.IDLE:
                assert said.verdict is Verdict.IDLE
            elif said.verdict is Verdict.IDLE and said.since is not None and end - MINUTE in whole:
                # a gap that began in this minute was seen only after it, by the record and not by who judged
                assert end - said.since < timedelta(seconds=rule.window_seconds) + MINUTE


@given(st.lists(st.integers(0, 30), unique=True, max_size=30), RULES, st.randoms())
def test_a_replay_takes_minutes_in_any_order_and_a_hole_for_unknown(
    present: list[int], rule: Rule, dice: object
) -> None:
    minutes = [Minute(BEGIN + at * MINUTE, dict.fromkeys(KINDS, 0.0)) for at in present]
    said = replay(minutes, rule, thresholds=LIMITS, applicable=KINDS, started_at=BEGIN)
    dice.shuffle(minutes)  # type: ignore[attr-defined]  # a Random
    assert replay(minutes, rule, thresholds=LIMITS, applicable=KINDS, started_at=BEGIN) == said
    for span in said:
        if span.verdict is Verdict.IDLE:
            assert span.since is not None
            begin = int((span.since - BEGIN) / MINUTE)
            assert all(at in present for at in range(begin, int((span.end - BEGIN) / MINUTE)))
