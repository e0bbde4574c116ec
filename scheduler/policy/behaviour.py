"""How long leases really stay: the part of the time asked for that is used, from what was seen before.

The estimate is Kaplan and Meier's (Nonparametric Estimation from Incomplete Observations, 1958), so that a lease that
still runs, or that was ended by others, tells that it stayed at least so long. What is foretold of one that runs is
the median of those that had stayed as long as it has: half leave earlier.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from operator import neg

ENOUGH = 10
"""A group of leases tells something once so many of them have left by themselves."""

ROUNDING = 1e-9


@dataclass(frozen=True)
class Stay:
    """One lease's stay. `part` is the time it ran over the time that it might have, 0 to 1.

    `left`: it went by itself, at its deadline too. Else it still runs, or somebody else ended it: it stayed so long at
    least.
    """

    owner: str
    environment: str
    part: float
    left: bool


class Curve:
    """What part of a group still stays, by the part of their time that has passed."""

    def __init__(self, stays: Iterable[Stay]) -> None:
        self._seen = sorted((min(max(stay.part, 0.0), 1.0), not stay.left) for stay in stays)

    @property
    def tells(self) -> bool:
        """Whether enough of them have left to say anything."""
        return sum(not stayed for _, stayed in self._seen) >= ENOUGH

    @cached_property
    def _steps(self) -> tuple[Sequence[float], Sequence[float]]:
        """Where the curve falls, and to what. At a tie who stayed longer is still counted among those at risk."""
        at: list[float] = []
        staying: list[float] = []
        share, left, risk = 1.0, 0, len(self._seen)
        for number, (part, stayed) in enumerate(self._seen):
            left += not stayed
            last = number + 1 == len(self._seen) or self._seen[number + 1][0] != part
            if last:
                if left:
                    share *= 1 - left / risk
                    at.append(part)
                    staying.append(share)
                left, risk = 0, len(self._seen) - number - 1
        return at, staying

    def leaves_by(self, age: float) -> float:
        """The part by which half of those are gone who had stayed for `age`; 1 where the curve ends before that."""
        at, staying = self._steps
        passed = bisect_right(at, age)
        still = staying[passed - 1] if passed else 1.0
        if still <= 0:
            return 1.0
        # the curve falls, bisect wants what rises: the first step after `age` that is down to a half of what is left
        found = bisect_left(staying, -(still / 2 + ROUNDING), lo=passed, key=neg)
        return at[found] if found < len(at) else 1.0


class Behaviour:
    """How long leases stay, by owner and environment; where that tells too little, by environment; then of all."""

    def __init__(self, stays: Iterable[Stay] = ()) -> None:
        groups: dict[tuple[str, ...], list[Stay]] = defaultdict(list)
        for stay in stays:
            for group in _groups(stay.owner, stay.environment):
                groups[group].append(stay)
        curves = {group: Curve(seen) for group, seen in groups.items()}
        self._curves = {group: curve for group, curve in curves.items() if curve.tells}

    @property
    def known(self) -> bool:
        """Whether it tells anything of anybody."""
        return bool(self._curves)

    def likely_seconds(
        self, owner: str, environment: str, asked_seconds: float, age_seconds: float
    ) -> float | None:
        """How many seconds more it will probably stay, of `asked_seconds` in all; None where nothing is known."""
        curve = next(
            (self._curves[group] for group in _groups(owner, environment) if group in self._curves), None
        )
        if curve is None:
            return None
        left = max(0.0, asked_seconds - age_seconds)
        if asked_seconds <= 0 or not left:
            return 0.0
        return min(left, max(0.0, curve.leaves_by(age_seconds / asked_seconds) * asked_seconds - age_seconds))

    def likely_end(
        self, owner: str, environment: str, *, started: datetime, deadline: datetime, now: datetime
    ) -> datetime | None:
        """When it will probably leave: not before `now`, and not after its deadline unless that has passed."""
        asked, age = (deadline - started).total_seconds(), (now - started).total_seconds()
        seconds = self.likely_seconds(owner, environment, asked, max(0.0, age))
        if seconds is None:
            return None
        return max(now, min(deadline, max(now, started) + timedelta(seconds=seconds)))


def _groups(owner: str, environment: str) -> tuple[tuple[str, ...], ...]:
    return (owner, environment), (environment,), ()
