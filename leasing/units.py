"""Reading and writing what people type: durations, sizes, times of day.

Every parser raises `Invalid` with the text it was given and examples that work.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

from leasing.errors import Invalid

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,3})?[smhdw])+", re.ASCII)
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhdw])", re.ASCII)
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s?([kmgtp]?)(i?)b?", re.ASCII | re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_CPUS = re.compile(r"\d{1,5}(?:\.\d{1,3})?", re.ASCII)

MAX_DURATION_SECONDS = 366 * 86400


def parse_duration(text: str) -> int:
    """Seconds in `90s`, `30m`, `4h`, `1h30m`, `2d`, `1w`; at least one second, at most 366 days."""
    text = text.strip().lower()
    if not _DURATION.fullmatch(text):
        raise Invalid(f"{text[:40]!r} is not a duration.", hint="Write it like 30m, 4h, 1h30m or 2d.")
    seconds = round(sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(text)))
    if not 1 <= seconds <= MAX_DURATION_SECONDS:
        raise Invalid(
            f"{text[:40]!r} is out of range: a duration is 1s to 366d.", hint="Write it like 30m or 4h."
        )
    return seconds


def format_duration(seconds: float) -> str:
    """The two largest units: `45s`, `1h42m`, `2d3h`; a negative one counts as zero."""
    left = max(0, int(seconds))
    if left < 60:
        return f"{left}s"
    pairs = (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1))
    for big, big_seconds, small, small_seconds in pairs:
        if left >= big_seconds:
            rest = left % big_seconds // small_seconds
            return f"{left // big_seconds}{big}" + (f"{rest}{small}" if rest else "")
    raise AssertionError(left)


def parse_size(text: str) -> int:
    """Bytes in `512M`, `16G`, `1.5GiB`, `24GB`. K, M, G, T, P are powers of 1024, as memory is sold and limited."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise Invalid(f"{text[:40]!r} is not a size.", hint="Write it like 512M, 16G or 1.5G.")
    size = int(float(match[1]) * 1024 ** _POWER[match[2].lower()])
    if not 1 <= size < 2**62:
        raise Invalid(f"{text[:40]!r} is out of range for a size.", hint="Write it like 512M, 16G or 1.5G.")
    return size


def format_size(size: float) -> str:
    """`512M`, `16G`, `1.5G`: the largest unit that leaves at least 1, one decimal where it says something."""
    power = 0 if size < 1 else min(5, int(math.log(size, 1024)))
    value = size / 1024**power
    text = f"{value:.1f}".removesuffix(".0")
    return f"{text}{('B', 'K', 'M', 'G', 'T', 'P')[power]}"


def parse_cpus(text: str) -> int:
    """Thousandths of a core in `2`, `0.5`."""
    text = text.strip()
    if not _CPUS.fullmatch(text):
        raise Invalid(f"{text[:40]!r} is not a number of CPUs.", hint="Write it like 2 or 0.5.")
    millis = round(float(text) * 1000)
    if millis < 10:
        raise Invalid(f"{text[:40]!r} is too few CPUs: the least is 0.01.", hint="Write it like 2 or 0.5.")
    return millis


_CLOCK = re.compile(r"(\d{1,2}):(\d{2})", re.ASCII)


def parse_until(text: str, now: datetime) -> datetime:
    """A moment: `18:00` (the next one after `now`) or an ISO date and time, by this machine's clock unless it names a
    zone."""
    text = text.strip()
    clock = _CLOCK.fullmatch(text)
    try:
        if clock:
            return _next(int(clock[1]), int(clock[2]), now)
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else _here(moment)
    except (ValueError, OverflowError, OSError):  # the system's zone does not reach all years
        raise Invalid(
            f"{text[:40]!r} is not a time.", hint="Write it like 18:00 or 2026-01-31T18:00."
        ) from None


def _next(hour: int, minute: int, now: datetime) -> datetime:
    today = now.astimezone().replace(hour=hour, minute=minute, second=0, microsecond=0, tzinfo=None)
    # an hour that clocks go back by has each of its times twice
    times = (_here((today + timedelta(days=days)).replace(fold=fold)) for days in (0, 1) for fold in (0, 1))
    return next(moment for moment in times if moment > now)


def _here(moment: datetime) -> datetime:
    """By the offset of its own day: that of today is another where clocks change in between. A time that clocks go
    forward over is as much later."""
    return datetime.fromtimestamp(moment.timestamp(), UTC).astimezone()
