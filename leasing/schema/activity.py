"""What leases did, by the minute, on the wire: enough to try another policy on it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from leasing.schema.base import Wire
from leasing.schema.policy import RuleOut


class ActivityRun(Wire):
    """One run of a lease. A minute's peak that is null was not known."""

    started_at: datetime
    ended_at: datetime | None
    """None: it goes on."""
    applicable: list[str]
    """The signals that say something of it."""
    first: datetime | None
    """The minute of the first peak; None: nothing of it is recorded."""
    peaks: dict[str, list[float | None]]
    """Signal -> its highest value in each minute from `first` on."""


class ActivityLease(Wire):
    """A lease with its runs."""

    id: UUID
    name: str
    owner: str
    project: str
    environment: str
    devices: float
    """What it has while it runs; parts count as such."""
    idle_timeout_seconds: int | None
    """What it asked for itself; None: by its policy, 0: never."""
    policy: RuleOut
    """What counts for it now, with what it asked for itself over it."""
    runs: list[ActivityRun]


class ActivityPage(Wire):
    """Leases that ran at any time from `since` to `until`, in order of arrival."""

    since: datetime
    until: datetime
    thresholds: dict[str, float]
    """The platform's: from where on a signal is activity."""
    items: list[ActivityLease]
    next: str | None
