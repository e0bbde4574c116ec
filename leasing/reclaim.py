"""By what rule a lease is taken back: the policy that fits it, with its own request over it. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from zoneinfo import ZoneInfo

from leasing.states import ReclaimAction

NEVER = 0
"""As the idle time of a lease: it is never taken back as idle."""


@dataclass(frozen=True)
class Hours:
    """Working hours: on `days` (Monday is 0) from `begin` to `end`, by the clock of `zone`; past midnight if `end`
    comes before `begin`."""

    days: frozenset[int]
    begin: time
    end: time
    zone: ZoneInfo

    def cover(self, moment: datetime) -> bool:
        """Whether `moment` lies within them."""
        local = moment.astimezone(self.zone)
        clock = local.time()
        if self.begin <= self.end:
            return local.weekday() in self.days and self.begin <= clock < self.end
        late = clock >= self.begin
        return (late or clock < self.end) and (local.weekday() - (0 if late else 1)) % 7 in self.days


@dataclass(frozen=True)
class Rule:
    """How one lease is taken back. Times in seconds."""

    policy: str = "platform"
    """Name of the policy that it comes from."""
    action: ReclaimAction = ReclaimAction.SUSPEND
    window_seconds: int = 3600
    """Quiet for so long is idle. `NEVER`: not taken back as idle."""
    learned: bool = False
    """The window is learned from how such leases were used, and is `window_seconds` at most."""
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
