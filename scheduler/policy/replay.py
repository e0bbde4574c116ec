"""The verdicts of a lease made again from its recorded minutes, under any rule.

A minute counts as its busiest moment, and one that was not recorded as unknown. So a replay under the rule of the day
never says idle where the verdict of that moment did not, and finds a lease idle at most a minute later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from leasing.reading import Reading
from leasing.reclaim import NEVER, Rule
from leasing.states import Verdict
from scheduler.policy.idleness import Judgement, judge

MINUTE = timedelta(minutes=1)
ENDLESS = timedelta(days=36500)


@dataclass(frozen=True)
class Minute:
    """What a lease's signals showed in the minute from `at` on: the highest value of each. Absent is unknown."""

    at: datetime
    peaks: Mapping[str, float]


@dataclass(frozen=True)
class Span:
    """From `begin` to `end` the verdict was one and the same; `reason` and `since` are those at its end."""

    begin: datetime
    end: datetime
    verdict: Verdict
    reason: str
    since: datetime | None


def replay(
    minutes: Sequence[Minute],
    rule: Rule,
    *,
    thresholds: Mapping[str, float],
    applicable: Collection[str],
    started_at: datetime,
) -> list[Span]:
    """The verdicts over `minutes`, in their order, of one run that started at `started_at`.

    `thresholds` are the platform's, over which those of the rule count. The minutes may come in any order.
    """
    limits = {**thresholds, **rule.thresholds}
    window = ENDLESS if rule.window_seconds == NEVER else timedelta(seconds=rule.window_seconds)
    states: dict[str, Reading] = {}
    spans: list[Span] = []
    end: datetime | None = None
    for minute in sorted(minutes, key=lambda one: one.at):
        if end is not None and minute.at > end:
            states.clear()
            _add(spans, end, minute.at, Judgement(Verdict.UNKNOWN, "cannot be told: not recorded"))
        begin, end = minute.at, minute.at + MINUTE
        for kind in applicable:
            peak = minute.peaks.get(kind)
            if peak is None or not peak >= 0:
                states.pop(kind, None)
                continue
            state = states.get(kind) or Reading(begin, end, None)
            active_at = end if peak >= limits[kind] else state.active_at
            states[kind] = replace(state, seen_at=end, active_at=active_at)
        judged = judge(
            applicable,
            states,
            started_at=started_at,
            now=end,
            window=window,
            grace=timedelta(seconds=rule.grace_seconds),
        )
        _add(spans, begin, end, judged)
    return spans


def _add(spans: list[Span], begin: datetime, end: datetime, judged: Judgement) -> None:
    if spans and spans[-1].verdict is judged.verdict and spans[-1].end == begin:
        begin = spans.pop().begin
    spans.append(Span(begin, end, judged.verdict, judged.reason, judged.since))
