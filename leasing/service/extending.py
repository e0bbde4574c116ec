"""Extending by the usual step: what `lease extend NAME` and one click on a warning do."""

from __future__ import annotations

from datetime import datetime

from leasing.model import Lease
from leasing.settings.limits import LimitSettings
from leasing.states import LeaseState

LEAST_SECONDS = 60


def usual_step(lease: Lease, limits: LimitSettings, now: datetime) -> int:
    """Seconds: the platform's step, or what is left of the longest that is allowed; a minute at least, so that whoever
    has all the time that there is gets to know the limit."""
    if lease.state == LeaseState.SUSPENDED:
        step, most, end = limits.extend_retention_seconds, limits.max_retention_seconds, lease.retain_until
    else:
        step, most, end = limits.extend_seconds, limits.max_ttl_seconds, lease.ends_at or lease.until
    has = (end - now).total_seconds() if end is not None else float(lease.ttl_seconds or 0)
    return max(LEAST_SECONDS, min(step, int(most - has)))


def usual_keep(lease: Lease, limits: LimitSettings, now: datetime) -> int:
    """Seconds for which a quiet lease is kept: the platform's step, as far as its time goes. That it has all the time
    that it may have makes a keep no shorter, for a keep takes none."""
    has = (lease.ends_at - now).total_seconds() if lease.ends_at is not None else limits.extend_seconds
    return max(LEAST_SECONDS, min(limits.extend_seconds, int(has)))
