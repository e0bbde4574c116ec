"""Learned windows: after how long of quiet it pays to take a lease back.

While a lease is quiet nobody knows how long the gap will last, as who rents skis does not know for how many days. What
is taken back at `window` of a gap that lasts `seconds` returns `seconds - window`, and waking it costs as much as
`wake_seconds` of idle time. Without knowing anything, to wait as long as a wake-up costs is at most twice as bad as
knowing all (Karlin, Manasse, McGeoch and Owicki, Competitive randomized algorithms for nonuniform problems, 1994). Who
knows how long gaps usually are does better: he stops where the rest to be expected pays for the wake-up, which is the
window that would have returned most of the gaps seen (so for power in Lu, Chung, Simunic, Benini and De Micheli,
Quantitative comparison of power management algorithms, 2000).

How a lease is used changes within hours, so the latest gaps count most: the last few of its own group, and beside them
the last of all as if they were `Memory.weight` of its own, which decides where a group has few. Only what came before
is used.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

WAKE_SECONDS = 300.0
"""What it costs somebody to come back to a lease that was taken back, in idle time."""
ENOUGH = 20
"""Nothing is learned from fewer gaps."""


@dataclass(frozen=True)
class Memory:
    """How long the past counts, in gaps: after so many more a gap counts 1/e of the latest one."""

    own: float = 8.0
    shared: float = 30.0
    weight: float = 20.0
    """All gaps together count as if they were so many of one's own."""


MEMORY = Memory()
REACH = 5
"""What is older than so many memories counts nothing."""
ROUNDING = 1e-6


@dataclass(frozen=True)
class Learned:
    """A window in seconds, and from how many gaps it was learned."""

    seconds: float
    gaps: int


class Gaps:
    """The gaps seen so far, the latest of each group and of all; a group is whoever is taken to behave alike."""

    def __init__(self, memory: Memory = MEMORY) -> None:
        self._memory = memory
        self._shared: deque[float] = deque(maxlen=math.ceil(REACH * memory.shared))
        self._own: defaultdict[Hashable, deque[float]] = defaultdict(
            lambda: deque(maxlen=math.ceil(REACH * memory.own))
        )

    def add(self, group: Hashable, seconds: float) -> None:
        """A gap has ended that lasted for so long. They are added in the order in which they ended."""
        self._shared.append(seconds)
        self._own[group].append(seconds)

    def learned(
        self, group: Hashable, *, least: float, most: float, wake_seconds: float = WAKE_SECONDS
    ) -> Learned | None:
        """The window that would have returned most of such gaps as `group` has, within `least` and `most`.

        None while too little is known.
        """
        if len(self._shared) < ENOUGH:
            return None
        own = self._own.get(group, ())
        shared = _fading(len(self._shared), self._memory.shared)
        weights = np.concatenate(
            [_fading(len(own), self._memory.own), self._memory.weight * shared / shared.sum()]
        )
        seconds = best(
            np.array([*own, *self._shared]), weights, least=least, most=most, wake_seconds=wake_seconds
        )
        return Learned(seconds, len(self._shared))


def best(gaps: Numbers, weights: Numbers, *, least: float, most: float, wake_seconds: float) -> float:
    """The window within `least` and `most` that returns most of the `gaps`, less `wake_seconds` for each it cuts short.

    What a window returns falls as it grows, except where it grows past a gap that was not worth a wake-up: so it is
    either the least, or as long as one of the gaps. Of two that return as much the longer is taken: it disturbs less.
    """
    order = np.argsort(gaps)
    gaps, weights = gaps[order], weights[order]
    candidates = np.unique(np.clip(gaps, least, most))
    candidates = np.concatenate([[least], candidates, [most]])
    first = np.searchsorted(
        gaps, candidates, side="right"
    )  # a gap that is as long as the window is not cut short
    many = np.concatenate([np.cumsum(weights[::-1])[::-1], [0.0]])[first]
    long = np.concatenate([np.cumsum((weights * gaps)[::-1])[::-1], [0.0]])[first]
    returned = long - many * (candidates + wake_seconds)
    return float(candidates[np.flatnonzero(returned >= returned.max() - ROUNDING)[-1]])


def _fading(number: int, memory: float) -> Numbers:
    """Weights of so many gaps, the latest last."""
    return np.asarray(np.exp(-np.arange(number)[::-1] / memory))
