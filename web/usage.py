"""Usage: what was allocated against what was used, and for admins where devices' time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from api.deps import Caller, Now, Unit
from leasing.schema.usage import DeviceBy, DeviceUsageRow, UsageBy, UsageRow
from leasing.service import capacity, periods, usage
from web.render import page

router = APIRouter()

LINES = 200
CLASSES = ("leased", "held", "free", "foreign", "out", "unknown")
MEANINGS = {
    "leased": "a container ran on it",
    "held": "starting, stopping, cleaning, reserved, warm",
    "free": "could be leased",
    "foreign": "a process that no lease owns",
    "out": "cordoned, quarantined or broken",
    "unknown": "nobody looked",
}


@dataclass(frozen=True)
class Part:
    """A piece of a bar, in percent of its width."""

    kind: str
    x: float
    width: float


@dataclass(frozen=True)
class Line:
    """What was allocated, and of that bar the parts that were measured and used."""

    row: UsageRow
    allocated: float
    measured: float
    used: float


@dataclass(frozen=True)
class Place:
    """A device's, or a day's, time by class."""

    row: DeviceUsageRow
    parts: Sequence[Part]


@router.get("/usage")
def show_usage(
    request: Request,
    unit: Unit,
    caller: Caller,
    now: Now,
    days: Annotated[int, Query(ge=1, le=366)] = 7,
    by: UsageBy = UsageBy.LEASE,
    whose: Annotated[Literal["mine", "all"], Query()] = "mine",
) -> Response:
    """Days are UTC's, as the server knows no other zone."""
    period = periods.period(now=now, days=days)
    wanted = usage.Wanted(period, by, others=whose == "all")
    found = usage.page(unit, wanted, principal=caller, now=now, limit=LINES)
    devices = capacity.page(unit, period, DeviceBy.DAY, now=now, limit=LINES) if caller.admin else None
    return page(
        request, "usage.html", caller, found=found, lines=_lines(found.items), days=days, by=by, whose=whose,
        devices=devices, places=[_place(one) for one in devices.items] if devices else [], meanings=MEANINGS,
        words=list(UsageBy),
        sheet="/api/v1/usage?"
        + urlencode({"format": "csv", "days": days, "by": by.value, "everyone": str(whose == "all").lower()}),
    )  # fmt: skip


def _lines(rows: Sequence[UsageRow]) -> list[Line]:
    """Bars against the longest."""
    most = max((row.device_allocated_seconds for row in rows), default=0.0) or 1.0
    return [
        Line(
            row,
            100 * row.device_allocated_seconds / most,
            100 * min(row.device_measured_seconds, row.device_allocated_seconds) / most,
            100 * min(row.device_used_seconds or 0.0, row.device_allocated_seconds) / most,
        )
        for row in rows
    ]


def _place(row: DeviceUsageRow) -> Place:
    whole = row.capacity or 1.0
    widths = [100 * getattr(row, name) / whole for name in CLASSES]
    starts = [0.0, *accumulate(widths)]
    parts = [
        Part(name, x, width) for name, x, width in zip(CLASSES, starts, widths, strict=False) if width > 0
    ]
    return Place(row, parts)
