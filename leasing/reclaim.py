"""By what rule a lease is taken back: the policy that fits it, with its own request over it. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, tzinfo

from leasing.states import ReclaimAction
from leasing.units import format_duration

NEVER = 0
"""As the idle time of a lease: it is never taken back as idle."""
PLATFORM = "platform"
"""What stands for a policy's name where no admin made one."""
DONE: Mapping[ReclaimAction, str] = {
    ReclaimAction.SUSPEND: "suspended after {} idle",
    ReclaimAction.END: "ended after {} idle",
    ReclaimAction.WARN: "told after {} idle, but left alone",
}


@dataclass(frozen=True)
class Hours:
    """Working hours: on `days` (Monday is 0) from `begin` to `end`, by the clock of `zone`; past midnight if `end`
    comes before `begin`."""

    days: frozenset[int]
    begin: time
    end: time
    zone: tzinfo

    def cover(self, moment: datetime) -> bool:
        """Whether `moment` lies within them."""
        local = moment.astimezone(self.zone)
        clock = local.time()
        if self.begin <= self.end:
            return local.weekday() in self.days and self.begin <= clock < self.end
        late = clock >= self.begin
        return (late or clock < self.end) and (local.weekday() - (0 if late else 1)) % 7 in self.days


ALWAYS = Hours(frozenset(range(7)), time.min, time.max, UTC)
"""What hours mean whose time zone is not known on a machine: unknown takes nothing back."""


@dataclass(frozen=True)
class Told:
    """The last warning at one step: when it was given, and the deadline that it named."""

    at: datetime
    deadline: datetime


@dataclass(frozen=True)
class Rule:
    """How one lease is taken back. Times in seconds."""

    policy: str = PLATFORM
    """Name of the policy that it comes from."""
    subject: str = "all"
    """Whom that policy is for: `all`, `environments/NAME`, `projects/NAME`, `leases/NAME`."""
    action: ReclaimAction = ReclaimAction.SUSPEND
    window_seconds: int = 3600
    """Quiet for so long is idle. `NEVER`: not taken back as idle."""
    learned: bool = False
    """The window is learned from how such leases were used, and is `window_seconds` at most."""
    gaps: int = 0
    """From so many idle gaps `window_seconds` was learned; 0: it is not, or not yet."""
    longest_seconds: int | None = None
    """The longest that a lease may ask to be idle; None: for ever."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Signal -> from where on it is activity, where that is not the platform's."""
    grace_seconds: int = 600
    warnings: tuple[int, ...] = (900, 300)
    """So long before, from the first to the last."""
    hours: Hours | None = None
    """In these nothing is taken back as idle."""
    protected_seconds: int = 600
    """After each start, for so long, it gives way to nobody."""
    retention_seconds: int = 7 * 86400
    """A suspended lease keeps its files for so long; 0: for ever."""

    def asked(self, seconds: int | None) -> Rule:
        """With a lease's own idle time over it, the policy's longest at most: None says nothing, 0 is never."""
        if seconds is None:
            return self
        if self.longest_seconds is not None:
            seconds = min(seconds or self.longest_seconds, self.longest_seconds)
        return replace(self, window_seconds=seconds, learned=False, gaps=0)

    def __str__(self) -> str:
        """`policy vision: suspended after 1h idle, warned 15m and 5m before`."""
        name = "the platform's policy" if self.policy == PLATFORM else f"policy {self.policy}"
        if self.window_seconds == NEVER:
            return f"{name}: never taken back as idle"
        done = DONE[self.action].format(format_duration(self.window_seconds))
        known = f"learned from {self.gaps} gaps" if self.gaps else "at most: that is learned"
        learned = f" ({known})" if self.learned else ""
        return f"{name}: {done}{learned}{self._warned()}"

    def _warned(self) -> str:
        if not self.warnings:
            return ", not warned"
        *first, last = [format_duration(step) for step in self.warnings]
        return f", warned {', '.join(first)}{' and ' if first else ''}{last} before"
