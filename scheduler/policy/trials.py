"""What a policy would have done to a lease: its record, judged and put through the warning ladder again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from leasing.reclaim import NEVER, Rule, Told
from leasing.states import ReclaimAction, Verdict
from scheduler.policy.ladder import climb
from scheduler.policy.replay import MINUTE, Minute, replay

STEPS = 10_000
"""So often the ladder is looked at for one quiet time, at most."""


@dataclass(frozen=True)
class Quiet:
    """Every signal was quiet from `since` until `until`; then somebody came `back`, or it was over or unknown."""

    since: datetime
    until: datetime
    back: bool

    @property
    def seconds(self) -> float:
        return (self.until - self.since).total_seconds()


@dataclass(frozen=True)
class Climbed:
    """What came of one quiet time: its warnings, and when it was taken back, if it was."""

    quiet: Quiet
    warned: tuple[datetime, ...]
    taken: datetime | None

    @property
    def returned_seconds(self) -> float:
        """So much of it others could have used."""
        return (self.quiet.until - self.taken).total_seconds() if self.taken else 0.0

    @property
    def woken(self) -> bool:
        """Whether somebody came back to what was taken back."""
        return self.taken is not None and self.quiet.back


def quiet_times(
    minutes: Sequence[Minute],
    rule: Rule,
    *,
    thresholds: Mapping[str, float],
    applicable: Collection[str],
    started_at: datetime,
) -> list[Quiet]:
    """When a run was quiet, by the same judge as its verdicts; the shortest is a minute long."""
    every = replace(rule, window_seconds=int(MINUTE.total_seconds()))
    spans = replay(minutes, every, thresholds=thresholds, applicable=applicable, started_at=started_at)
    return [
        Quiet(one.since, one.end, after is not None and after.verdict is Verdict.ACTIVE)
        for one, after in pairwise([*spans, None])
        if one is not None and one.verdict is Verdict.IDLE and one.since is not None
    ]


def climbed(quiet: Quiet, rule: Rule) -> Climbed:
    """What the rule would have done in that time."""
    if rule.window_seconds == NEVER:
        return Climbed(quiet, (), None)
    target = quiet.since + timedelta(seconds=rule.window_seconds)
    told: dict[int, Told] = {}
    warned: list[datetime] = []
    now = quiet.since
    for _ in range(STEPS):
        if now >= quiet.until:
            break
        rung = climb(target, rule.warnings, told, now, hours=rule.hours)
        if rung.over:
            return Climbed(quiet, tuple(warned), None if rule.action is ReclaimAction.WARN else now)
        if rung.due:
            told |= {step: Told(now, rung.deadline) for step in rung.due}
            warned.append(now)
            continue
        moments = [rung.deadline - timedelta(seconds=step) for step in (*rule.warnings, 0)]
        now = min((moment for moment in moments if moment > now), default=now + MINUTE)
    return Climbed(quiet, tuple(warned), None)
