"""What one signal of a lease has shown, what that says at a moment, and how people read it. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from leasing.units import format_size

FRESH = timedelta(seconds=30)
"""A signal not heard for longer is unknown, whatever it said before; what is known of it begins anew after that."""
AHEAD = timedelta(seconds=5)
"""A reading taken in meanwhile may be so much younger than the moment of who looks. More is a clock gone back."""


class Signalled(StrEnum):
    """What a signal says of its lease."""

    ACTIVE = "active"
    QUIET = "quiet"
    UNKNOWN = "unknown"
    INAPPLICABLE = "inapplicable"
    """It can say nothing of this lease, and does not count."""


@dataclass(frozen=True)
class Reading:
    """Known without a gap since `known_since`, last heard at `seen_at` with `value`, last active at `active_at`."""

    known_since: datetime
    seen_at: datetime
    active_at: datetime | None
    value: float = 0.0

    def at(self, now: datetime) -> tuple[Signalled, datetime | None]:
        """What it says `now`; and while it is quiet, since when."""
        if not (-AHEAD <= now - self.seen_at <= FRESH and self.known_since <= self.seen_at):
            return Signalled.UNKNOWN, None
        if self.active_at is not None and self.active_at >= min(now, self.seen_at):
            return Signalled.ACTIVE, None
        if self.known_since > now:
            return Signalled.UNKNOWN, None
        return Signalled.QUIET, max(self.known_since, self.active_at or self.known_since)


def measured(kind: str, value: float) -> str:
    """A signal's last value, as people read it."""
    match kind:
        case "gpu":
            return f"{value:.0%}"
        case "gpu_memory":
            return f"changed by {format_size(int(value))}"
        case "cpu":
            return f"{value:.2f} cores"
        case "disk" | "network":
            return f"{format_size(int(value))} a second"
        case "endpoint":
            return f"{value:.0f} requests"
        case "terminal":
            return f"{value:.0f} bytes typed"
        case "kernel":
            return f"{value:.0f} busy"
        case _:
            return "kept" if value else "not kept"
