"""What a policy of reclaim would have done to the last days, and to whom, beside what counts now."""

from __future__ import annotations

import csv
import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from leasing.errors import Invalid
from leasing.reclaim import Rule
from leasing.schema.activity import ActivityLease, ActivityPage, ActivityRun
from scheduler.policy.replay import MINUTE, Minute
from scheduler.policy.trials import Climbed, Quiet, climbed, quiet_times
from scheduler.policy.windows import Gaps

HOUR = 3600.0
LEARN_EVERY = timedelta(minutes=5)
BREAK_SECONDS = 600.0
"""Samples of a recorded series that lie further apart belong to two runs."""
COLUMNS = ("pod", "seconds", "duty_percent")
EPOCH = datetime(2000, 1, 3, tzinfo=UTC)
"""When a series begins that does not say: a Monday."""


@dataclass(frozen=True)
class Stay:
    """One run: its minutes, and the signals that say something of it."""

    started_at: datetime
    applicable: frozenset[str]
    minutes: Sequence[Minute]
    _judged: dict[object, list[Quiet]] = field(default_factory=dict, repr=False, compare=False)

    def quiet(self, rule: Rule, thresholds: Mapping[str, float]) -> list[Quiet]:
        """When it was quiet under the rule. Judged once for rules that do not differ in that."""
        limits = {**thresholds, **rule.thresholds}
        key = (rule.grace_seconds, *sorted(limits.items()))
        if key not in self._judged:
            self._judged[key] = quiet_times(
                self.minutes,
                rule,
                thresholds=thresholds,
                applicable=self.applicable,
                started_at=self.started_at,
            )
        return self._judged[key]


@dataclass(frozen=True)
class Case:
    """A lease of the record. `rule` is what counts for it now, `asked` the idle time that it asked for itself."""

    name: str
    owner: str
    project: str
    environment: str
    devices: float
    asked: int | None
    rule: Rule
    stays: Sequence[Stay]

    @property
    def group(self) -> tuple[str, str, str]:
        return self.owner, self.project, self.environment


@dataclass(frozen=True)
class Taken:
    """A time at which a lease would have been taken back: `back_at` is when somebody came back to it."""

    at: datetime
    idle_since: datetime
    warned_at: tuple[datetime, ...]
    back_at: datetime | None


@dataclass
class Outcome:
    """What a policy would have done to somebody's leases."""

    idle_device_hours: float = 0.0
    returned_device_hours: float = 0.0
    warnings: int = 0
    taken: int = 0
    woken: int = 0
    """So often somebody came back to a lease that had been taken back."""
    surprised: int = 0
    """And so often soon after."""
    times: list[Taken] = field(default_factory=list)

    def add(self, done: Climbed, devices: float, soon: timedelta) -> None:
        self.idle_device_hours += done.quiet.seconds / HOUR * devices
        self.returned_device_hours += done.returned_seconds / HOUR * devices
        self.warnings += len(done.warned)
        if done.taken is None:
            return
        self.taken += 1
        self.woken += done.woken
        self.surprised += done.woken and done.quiet.until - done.taken <= soon
        self.times.append(
            Taken(done.taken, done.quiet.since, done.warned, done.quiet.until if done.quiet.back else None)
        )


@dataclass(frozen=True)
class Told:
    """Of all, of each lease and of each owner."""

    all: Outcome
    leases: Mapping[str, Outcome]
    owners: Mapping[str, Outcome]


def cases(pages: Iterable[ActivityPage], rule_in: Callable[[ActivityLease], Rule]) -> Iterator[Case]:
    """What a platform recorded."""
    for page in pages:
        for lease in page.items:
            yield Case(
                lease.name,
                lease.owner,
                lease.project,
                lease.environment,
                lease.devices,
                lease.idle_timeout_seconds,
                rule_in(lease),
                [Stay(run.started_at, frozenset(run.applicable), list(_minutes(run))) for run in lease.runs],
            )


def _minutes(run: ActivityRun) -> Iterator[Minute]:
    if run.first is None:
        return
    for number in range(max((len(peaks) for peaks in run.peaks.values()), default=0)):
        known = {kind: peak for kind, peaks in run.peaks.items() if (peak := peaks[number]) is not None}
        yield Minute(run.first + number * MINUTE, known)


def series(lines: Iterable[str]) -> list[Case]:
    """A recorded utilisation series, `pod, seconds, duty_percent`, each pod as a lease with one device.

    Raises `Invalid`, which names the line.
    """
    samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
    rows = csv.reader(lines)
    if tuple(next(rows, ())) != COLUMNS:
        raise Invalid(
            f"Its first line is not {','.join(COLUMNS)}.",
            hint="Write such a file with: lease admin policy samples > FILE",
        )
    for number, row in enumerate(rows, start=2):
        try:
            pod, seconds, duty = row[0], float(row[1]), float(row[2])
        except (IndexError, ValueError):
            raise Invalid(f"Line {number} is not {','.join(COLUMNS)}.") from None
        if not (math.isfinite(duty) and 0 <= seconds < 1e9):
            raise Invalid(f"Line {number} is out of range.")
        samples[pod].append((seconds, duty))
    return [
        Case(pod, pod, "-", "-", 1.0, None, Rule(), list(_stays(sorted(found))))
        for pod, found in samples.items()
    ]


def _stays(samples: Sequence[tuple[float, float]]) -> Iterator[Stay]:
    run: list[tuple[float, float]] = []
    for sample in samples:
        if run and sample[0] - run[-1][0] > BREAK_SECONDS:
            yield _stay(run)
            run = []
        run.append(sample)
    if run:
        yield _stay(run)


def _stay(samples: Sequence[tuple[float, float]]) -> Stay:
    """Minute by minute; one without a sample of its own is as the last before it."""
    peaks: dict[int, float] = {}
    for seconds, duty in samples:
        number = int(seconds // MINUTE.total_seconds())
        peaks[number] = max(duty / 100, peaks.get(number, 0.0))
    first, last = min(peaks), max(peaks)
    minutes, peak = [], peaks[first]
    for number in range(first, last + 1):
        peak = peaks.get(number, peak)
        minutes.append(Minute(EPOCH + number * MINUTE, {"gpu": peak}))
    return Stay(EPOCH + first * MINUTE, frozenset({"gpu"}), minutes)


def play(
    found: Sequence[Case],
    thresholds: Mapping[str, float],
    *,
    tried: Rule | None,
    least: float,
    soon: timedelta,
) -> Told:
    """What `tried` would have done to every lease, or, if it is None, what counts for each now.

    A window that is learned is learned as time passes in the record, from what lies before.
    """
    told = Told(Outcome(), defaultdict(Outcome), defaultdict(Outcome))
    for case, rule, quiet in _in_order(found, thresholds, tried, least):
        done = climbed(quiet, rule)
        for outcome in (told.all, told.leases[case.name], told.owners[case.owner]):
            outcome.add(done, case.devices, soon)
    return told


def _in_order(
    found: Sequence[Case], thresholds: Mapping[str, float], tried: Rule | None, least: float
) -> Iterator[tuple[Case, Rule, Quiet]]:
    """Every quiet time as it began, with the rule for it."""
    times = [
        (quiet.since, number, quiet, case, rule)
        for number, case in enumerate(found)
        for rule in [case.rule if tried is None else tried.asked(case.asked)]
        for stay in case.stays
        for quiet in stay.quiet(rule, thresholds)
    ]
    seen, ended, windows, look = Gaps(), list[tuple[datetime, int, Case, float]](), {}, EPOCH
    for number, (since, _, quiet, case, rule) in enumerate(sorted(times, key=lambda one: one[:2])):
        if since >= look:
            windows, look = dict[tuple[str, str, str], float](), since + LEARN_EVERY
            while ended and ended[0][0] <= since:
                _, _, whose, seconds = heapq.heappop(ended)
                seen.add(whose.group, seconds)
        if quiet.back:
            heapq.heappush(ended, (quiet.until, number, case, quiet.seconds))
        if tried is None or not rule.learned:
            yield case, rule, quiet
            continue
        if case.group not in windows:
            learned = seen.learned(case.group, least=least, most=rule.window_seconds)
            windows[case.group] = learned.seconds if learned else rule.window_seconds
        yield case, replace(rule, window_seconds=round(windows[case.group])), quiet
