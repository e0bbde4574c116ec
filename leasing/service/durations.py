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


def check_retention(until: datetime, limits: LimitSettings, now: datetime) -> None:
    """Raises `Invalid` if a suspended lease's files may not be kept for so long, or that has passed."""
    if until <= now:
        raise Invalid(
            f"{until:%Y-%m-%d %H:%M %Z} is in the past.", hint="Give a later time, or so much more: 3d."
        )
    if (until - now).total_seconds() > limits.max_retention_seconds:
        most = format_duration(limits.max_retention_seconds)
        raise Invalid(
            f"Files of a suspended lease are kept for {most} from now at most.",
            hint="Extend it by less, or keep what matters in a workspace: lease up --workspace NAME",
        )
