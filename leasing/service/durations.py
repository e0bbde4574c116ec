"""How long a lease may last."""

from __future__ import annotations

from datetime import datetime

from leasing.errors import Invalid
from leasing.settings.limits import LimitSettings
from leasing.units import format_duration


def within(seconds: int, limits: LimitSettings) -> int:
    if seconds > limits.max_ttl_seconds:
        most = format_duration(limits.max_ttl_seconds)
        raise Invalid(
            f"{format_duration(seconds)} is longer than a lease may last: the limit is {most}.",
            hint=f"Ask for {most} at most: as time passes, lease extend gives more.",
        )
    return seconds


def check_end(ends_at: datetime, limits: LimitSettings, now: datetime) -> None:
    if ends_at <= now:
        raise Invalid(f"{ends_at:%Y-%m-%d %H:%M %Z} is in the past.", hint="Give a later time, or --for 4h.")
    within(int((ends_at - now).total_seconds()), limits)
