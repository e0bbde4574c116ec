"""Is a lease idle? One verdict from all its signals together.

Each signal that applies to the lease is active, quiet or unknown. The lease has been quiet since the last moment at
which one of them was not known to be quiet, and is idle once that is its whole window. Missing, late or malformed data
is unknown, and unknown never reclaims.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from leasing.reading import Reading, Signalled
from leasing.states import Verdict
from leasing.units import format_duration

WORDS = {
    "gpu": "GPU",
    "gpu_memory": "GPU memory",
    "cpu": "CPU",
    "disk": "disk",
    "network": "network",
    "endpoint": "endpoint",
    "terminal": "terminal",
    "kernel": "notebook kernels",
    "keep": "keep",
}


@dataclass(frozen=True)
class Judgement:
    """A verdict, why, and since when every signal has been quiet: None while one is not known to be, whatever the
    verdict; idle is the verdict once that is the whole window."""

    verdict: Verdict
    reason: str
    since: datetime | None = None


def judge(
    applicable: Collection[str],
    signals: Mapping[str, Reading],
    *,
    started_at: datetime,
    now: datetime,
    window: timedelta,
    grace: timedelta = timedelta(0),
) -> Judgement:
    """The verdict for the `window` that ends `now`, for a lease that runs since `started_at`.

    `applicable` was fixed at the lease's start; a signal of it that was never heard is unknown. What went by in the
    `grace` after the start does not count as quiet.
    """
    states = {
        kind: signals[kind].at(now) if kind in signals else (Signalled.UNKNOWN, None)
        for kind in sorted(applicable)
    }
    begin = now - window
    length = format_duration(window.total_seconds())
    counted = started_at + grace
    active = [kind for kind, (state, _) in states.items() if state is Signalled.ACTIVE]
    unknown = [kind for kind, (state, _) in states.items() if state is Signalled.UNKNOWN]
    since = (
        None
        if active or unknown or not states or now < counted
        else max([counted, *(one for _, one in states.values() if one is not None)])
    )
    if active:
        return Judgement(Verdict.ACTIVE, _in_use(active))
    if since is not None and since <= begin:
        return Judgement(Verdict.IDLE, f"{_listed(states)} quiet for {length} or longer", since)
    if recent := [kind for kind in states if kind in signals and _after(signals[kind].active_at, begin)]:
        return Judgement(Verdict.ACTIVE, f"{_listed(recent)} in use less than {length} ago", since)
    if counted > begin:
        return Judgement(Verdict.ACTIVE, f"started less than {_start(window, grace)} ago", since)
    young = unknown or [kind for kind in states if signals[kind].known_since > begin]
    words = _listed(young) or "anything"
    return Judgement(Verdict.UNKNOWN, f"cannot be told: no steady reading of {words} for {length}", since)


def _after(moment: datetime | None, begin: datetime) -> bool:
    return moment is not None and moment > begin


def _start(window: timedelta, grace: timedelta) -> str:
    return format_duration((window + grace).total_seconds())


def _in_use(kinds: Collection[str]) -> str:
    used = _listed([kind for kind in kinds if kind != "keep"])
    parts = ([f"{used} in use"] if used else []) + (["kept by its owner"] if "keep" in kinds else [])
    return "; ".join(parts)


def _listed(kinds: Collection[str]) -> str:
    return ", ".join(WORDS.get(kind, kind) for kind in kinds)
