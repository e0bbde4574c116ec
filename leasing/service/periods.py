"""A range of time as people name it: the last days, a month, or from one moment to another, in their zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from leasing.errors import Invalid

USUAL_DAYS = 7
MOST_DAYS = 3660
MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
ZONE = re.compile(r"[A-Za-z0-9_+-]{1,30}(/[A-Za-z0-9_+-]{1,30}){0,2}", re.ASCII)


@dataclass(frozen=True)
class Period:
    """From `since` until right before `until`; days are those of `zone`."""

    since: datetime
    until: datetime
    zone: str = "UTC"


def period(
    *,
    now: datetime,
    days: int | None = None,
    month: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    zone: str = "UTC",
) -> Period:
    """The last `USUAL_DAYS` days unless something else is asked for. Raises `Invalid` for what does not fit."""
    place = _zone(zone)
    if sum((days is not None, month is not None, since is not None or until is not None)) > 1:
        raise Invalid(
            "Only one of days, month, and from and to can be asked for.", hint="For example: --days 7"
        )
    if month is not None:
        return Period(*_month(month, place), zone)
    if since is None and until is None:
        return Period(now - timedelta(days=USUAL_DAYS if days is None else days), now, zone)
    until = until or now
    since = since or until - timedelta(days=USUAL_DAYS)
    if not since < until or until - since > timedelta(days=MOST_DAYS):
        raise Invalid(
            f"From {since.isoformat()} to {until.isoformat()} is no range of time: it is empty, or over ten years.",
            hint="For example: --from 2026-11-01T00:00 --to 2026-11-08T00:00",
        )
    return Period(since, until, zone)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # known without a database of zones, too
    try:
        if ZONE.fullmatch(name):
            return ZoneInfo(name)
        raise KeyError(name)
    except (KeyError, ValueError, OSError):  # a name that is none, or one of a folder
        raise Invalid(
            f"{name[:60]!r} is no time zone.",
            hint="Write it like Europe/Berlin or UTC; the command line takes $TZ.",
        ) from None


def _month(text: str, zone: tzinfo) -> tuple[datetime, datetime]:
    found = MONTH.fullmatch(text)
    year, month = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (1970 <= year <= 9000 and 1 <= month <= 12):
        raise Invalid(f"{text[:40]!r} is no month.", hint="Write it like 2026-11.")
    first = datetime(year, month, 1, tzinfo=zone)
    return first, datetime(year + month // 12, month % 12 + 1, 1, tzinfo=zone)
