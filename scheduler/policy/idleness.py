"""Is a lease idle? One verdict from all its signals together.

Each signal is active, quiet or unknown for the window; those that do not apply to the lease (no GPU, no port) are not
among them. Idle = none active, none unknown, at least one quiet. Missing data is unknown, and unknown never reclaims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from leasing.states import Verdict
from leasing.units import format_duration

FRESH = timedelta(seconds=30)
"""A signal not heard for longer is unknown now, whatever it said before."""

WORDS = {"gpu": "GPU", "cpu": "CPU", "network": "network", "endpoint": "endpoint"}


@dataclass(frozen=True)
class SignalState:
    """Known without a gap since `known_since`, last heard at `seen_at`, last active at `active_at`."""

    known_since: datetime
    seen_at: datetime
    active_at: datetime | None


@dataclass(frozen=True)
class Judgement:
    """A verdict, why, and since when every signal has been quiet (None unless idle)."""

    verdict: Verdict
    reason: str
    since: datetime | None = None


def judge(
    applicable: frozenset[str],
    signals: Mapping[str, SignalState],
    *,
    started_at: datetime,
    now: datetime,
    window: timedelta,
) -> Judgement:
    """The verdict for the `window` that ends `now`, for a lease that runs since `started_at`.

    `applicable` was fixed at the lease's start; a signal of it that was never heard is unknown.
    """
    begin = now - window
    active = [kind for kind in sorted(applicable) if _active(signals.get(kind), begin)]
    if active:
        return Judgement(Verdict.ACTIVE, f"{_listed(active)} in use")
    if started_at > begin:
        return Judgement(Verdict.ACTIVE, f"started less than {format_duration(window.total_seconds())} ago")
    unknown = [kind for kind in sorted(applicable) if not _known(signals.get(kind), begin, now)]
    if unknown or not applicable:
        return Judgement(
            Verdict.UNKNOWN, f"cannot be told: no steady reading of {_listed(unknown) or 'anything'}"
        )
    since = max([started_at, *(signals[kind].active_at or signals[kind].known_since for kind in applicable)])
    quiet = format_duration((now - since).total_seconds())
    return Judgement(Verdict.IDLE, f"{_listed(sorted(applicable))} quiet for {quiet}", since)


def _active(signal: SignalState | None, begin: datetime) -> bool:
    return signal is not None and signal.active_at is not None and signal.active_at > begin


def _known(signal: SignalState | None, begin: datetime, now: datetime) -> bool:
    return signal is not None and signal.known_since <= begin and now - signal.seen_at <= FRESH


def _listed(kinds: list[str]) -> str:
    return ", ".join(WORDS.get(kind, kind) for kind in kinds)
