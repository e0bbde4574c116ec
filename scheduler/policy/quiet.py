"""Idle gaps as they come in, minute by minute: what windows are learned from. Agrees with the judge of verdicts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from scheduler.policy.replay import MINUTE, Minute


class Watched:
    """One lease, minute after minute in their order."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._until: datetime | None = None
        self._resting = False

    def see(
        self,
        minute: Minute,
        *,
        limits: Mapping[str, float],
        applicable: Collection[str],
        counted_from: datetime,
    ) -> float | None:
        """The seconds of a gap that ended with this minute, because somebody was active in it. A gap in which something
        was unknown is none. `counted_from` is the run's start with its grace."""
        if self._until is not None and minute.at > self._until:
            self._since = None
        self._until, self._resting = minute.at + MINUTE, False
        peaks = [minute.peaks.get(kind) for kind in applicable]
        if any(
            peak is not None and peak >= limits[kind] for kind, peak in zip(applicable, peaks, strict=True)
        ):
            return self._ended(minute.at)
        if not peaks or any(peak is None or not peak >= 0 for peak in peaks):
            self._since = None
        elif self._until > counted_from:
            self._since = self._since or max(minute.at, counted_from)
        return None

    def taken_back(self) -> None:
        """As idle: the gap goes on, though nothing is recorded of it."""
        self._resting = self._since is not None

    def came_back(self, at: datetime) -> float | None:
        """Its owner lets it go on, or it ended: the seconds of the gap for which it was taken back."""
        if not self._resting:
            return None
        self._resting = False
        return self._ended(at)

    def _ended(self, at: datetime) -> float | None:
        since, self._since = self._since, None
        return (at - since) / timedelta(seconds=1) if since is not None and at > since else None
