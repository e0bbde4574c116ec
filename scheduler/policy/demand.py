"""What will be asked for, hour by hour: by what was asked at that hour of the week before.

A week has few hours that are alike, and a month only four of each, so that a mean of them alone is mostly noise. Each
hour of the week is drawn towards the same hour of any day, and that towards the mean of all hours, the more the less
is known of it (shrinkage as of Efron and Morris, Stein's Paradox in Statistics, 1977). What lies back counts for less.
What the last hours had more or less than usual is carried on, and fades.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

DAY, WEEK = 24, 168
HOUR = timedelta(hours=1)
Hours = npt.NDArray[np.float64]
"""A row for each hour, a column for each thing that is counted."""


@dataclass(frozen=True)
class Shape:
    """How the past counts. Chosen on the first half of a public trace, see docs/forecasts.md."""

    half_life_days: float = 14.0
    of_day: float = 8.0
    """An hour of the day is drawn to the mean of all as by so many hours of that mean."""
    of_week: float = 4.0
    """And an hour of the week to the same hour of any day."""
    lately_hours: float = 3.0
    """Half-life of what counts as lately."""
    carried: float = 0.8
    """So much of what was lately above or below the usual is expected of the next hour,"""
    fading: float = 0.95
    """and of each hour after that so much of the one before."""


@dataclass(frozen=True)
class Asked:
    """A request of the past."""

    at: datetime
    environment: str
    devices: float


@dataclass(frozen=True)
class Expected:
    """What will probably be asked for within an hour that begins at `at`."""

    at: datetime
    environment: str
    requests: float
    devices: float


def expected(
    asked: Iterable[Asked], now: datetime, *, hours: int = DAY, shape: Shape = Shape()
) -> list[Expected]:
    """For each environment and each of the next hours, from the present one on; nothing where nothing was asked yet.

    The present hour is not over, and so is not learnt from.
    """
    present = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    past = [one for one in asked if one.at < present]
    if not past:
        return []
    names = sorted({one.environment for one in past})
    columns = {name: 2 * number for number, name in enumerate(names)}
    first = min(one.at for one in past).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    counts = np.zeros(((present - first) // HOUR, 2 * len(names)))
    for one in past:
        row, column = (one.at - first) // HOUR, columns[one.environment]
        counts[row, column] += 1
        counts[row, column + 1] += one.devices
    ahead = foretold(counts, hour_of_week(first), hours, shape)
    return [
        Expected(present + hour * HOUR, name, float(ahead[hour, column]), float(ahead[hour, column + 1]))
        for name, column in columns.items()
        for hour in range(hours)
    ]


def hour_of_week(at: datetime) -> int:
    """0 is the first hour of Monday, in UTC."""
    at = at.astimezone(UTC)
    return at.weekday() * DAY + at.hour


def foretold(counts: Hours, first: int, hours: int = DAY, shape: Shape = Shape()) -> Hours:
    """The next hours, of counts whose first row is that hour of the week. Never below 0."""
    past = len(counts)
    if past == 0:
        return np.zeros((hours, counts.shape[1]))
    age = np.arange(past - 1, -1, -1)
    weight = 0.5 ** (age / (DAY * shape.half_life_days))
    at = (first + np.arange(past + hours)) % WEEK
    usual = _usual(counts, at, weight, shape)
    lately = 0.5 ** (age / shape.lately_hours)
    above = (lately @ (counts - usual[:past])) / lately.sum()
    carried = shape.carried * shape.fading ** np.arange(hours)
    ahead: Hours = np.maximum(0.0, usual[past:] + carried[:, None] * above)
    return ahead


def _usual(counts: Hours, at: npt.NDArray[np.int64], weight: Hours, shape: Shape) -> Hours:
    """What is usual at each hour of the week in `at`, by those at which was counted, its beginning."""
    past = len(counts)
    overall = (weight @ counts) / weight.sum()
    of_day = _drawn(
        counts, at[:past] % DAY, DAY, weight, np.broadcast_to(overall, (DAY, len(overall))), shape.of_day
    )
    of_week = _drawn(counts, at[:past], WEEK, weight, np.tile(of_day, (7, 1)), shape.of_week)
    return of_week[at]


def _drawn(
    counts: Hours, kinds: npt.NDArray[np.int64], number: int, weight: Hours, towards: Hours, strength: float
) -> Hours:
    """The mean of each kind of hour, drawn to what is given for it."""
    known = np.bincount(kinds, weights=weight, minlength=number)
    sums = np.zeros((number, counts.shape[1]))
    np.add.at(sums, kinds, weight[:, None] * counts)
    return (sums + strength * towards) / (known + strength)[:, None]
