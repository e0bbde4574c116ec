"""The calendar: each device a line, leases and reservations as bars over the next days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from api.deps import Caller, Now, Unit
from leasing.errors import Invalid
from leasing.schema.cluster import DeviceStateOut
from leasing.schema.reservation import HeldOut, ReservationOut
from leasing.service import bookings, cluster
from web.render import page

router = APIRouter()

ROOM, GAP, HEIGHT = 36.0, 2.0, 40.0
"""Of a line, in pixels: for its bars, between two of them, and all of it."""
SIGN = 0.82
"""Percent of a line's width that a letter of a name takes, on a desk."""
HOUR_STEP = 3


@dataclass
class Bar:
    """One stay on a device. Positions are percents of the line's width, heights are pixels."""

    kind: Literal["lease", "reserved"]
    name: str
    said: str
    x: float
    width: float
    y: float
    height: float
    mine: bool
    late: bool = False
    label: Literal["inside", "beside", ""] = ""


@dataclass
class Line:
    """A device with its bars."""

    device: DeviceStateOut
    bars: list[Bar]


@dataclass(frozen=True)
class Tick:
    """A moment on the axis; `name` is empty where there is no room for one."""

    x: float
    name: str
    day: bool


@dataclass(frozen=True)
class Span:
    """The range that is shown."""

    first: datetime
    days: int

    @property
    def last(self) -> datetime:
        return self.first + timedelta(days=self.days)

    def at(self, moment: datetime) -> float:
        """Where a moment lies, in percent; outside of the range at its edge."""
        return round(100 * min(1.0, max(0.0, (moment - self.first) / (self.last - self.first))), 3)

    def ticks(self) -> list[Tick]:
        if self.days > 1:
            days = [self.first + timedelta(days=number) for number in range(self.days)]
            return [Tick(self.at(day), f"{day:%a} {day.day}", day=True) for day in days]
        hours = [self.first + timedelta(hours=number) for number in range(0, 24, HOUR_STEP)]
        return [Tick(self.at(hour), f"{hour:%H}", day=False) for hour in hours]

    def __str__(self) -> str:
        end = self.last - timedelta(seconds=1)
        if self.days == 1:
            return f"{self.first.day} {self.first:%B %Y}"
        same = self.first.month == end.month
        return f"{self.first.day}{'' if same else f' {self.first:%B}'} to {end.day} {end:%B %Y}"


@router.get("/calendar")
def calendar(
    request: Request,
    unit: Unit,
    caller: Caller,
    now: Now,
    days: Annotated[int, Query(ge=1, le=7)] = 7,
    first: Annotated[str, Query(alias="from", max_length=10)] = "",
) -> Response:
    """Days are UTC's, as the server knows no other zone. htmx asks again every few seconds."""
    span = Span(_day(first, now), days)
    found = bookings.page(unit, now=now, starts_at=span.first, ends_at=span.last)
    devices = cluster.devices(unit, now=now).items
    template = "_calendar.html" if "hx-request" in request.headers else "calendar.html"
    return page(
        request, template, caller, span=span, today=_day("", now), step=timedelta(days=days), height=HEIGHT,
        lines=_lines(span, devices, found.items, found.leases, caller.name),
        reservations=[one for one in found.items if one.state != "over"],
        now_at=span.at(now) if span.first <= now < span.last else None,
    )  # fmt: skip


def _day(text: str, now: datetime) -> datetime:
    """The day's first moment. Raises `Invalid` for what is no day."""
    if not text:
        return datetime.combine(now.astimezone(UTC).date(), time.min, UTC)
    try:
        return datetime.combine(date.fromisoformat(text), time.min, UTC)
    except ValueError:
        raise Invalid(f"{text!r} is not a day.", hint="Write it like 2026-01-31.") from None


def _lines(
    span: Span,
    devices: Sequence[DeviceStateOut],
    reservations: Sequence[ReservationOut],
    leases: Sequence[HeldOut],
    caller: str,
) -> list[Line]:
    reserved: dict[str, list[ReservationOut]] = defaultdict(list)
    held: dict[str, list[HeldOut]] = defaultdict(list)
    for reservation in reservations:
        for device in reservation.devices:
            reserved[device.uuid].append(reservation)
    for lease in leases:
        for device in lease.devices:
            held[device.uuid].append(lease)
    return [Line(device, _bars(span, reserved[device.uuid], held[device.uuid], caller)) for device in devices]


def _bars(
    span: Span, reservations: Sequence[ReservationOut], leases: Sequence[HeldOut], caller: str
) -> list[Bar]:
    """Leases that have parts of the device lie above each other; one under a reservation lies at its foot."""
    names = {one.name for one in reservations}
    bars = [
        Bar(
            "reserved", one.name, _said(one.name, one.owner, one.starts_at, one.ends_at), span.at(one.starts_at),
            span.at(one.ends_at) - span.at(one.starts_at), GAP, ROOM, one.owner == caller,
            late=one.late_since is not None,
        )
        for one in reservations
    ]  # fmt: skip
    walking = [one for one in leases if one.reservation not in names]
    each = ROOM / max(1, len(walking))
    for lease in leases:
        under = lease.reservation in names
        y = HEIGHT - GAP - ROOM / 4 if under else GAP + walking.index(lease) * each
        height = ROOM / 4 if under else each - (1 if len(walking) > 1 else 0)
        x = span.at(lease.starts_at)
        said = _said(lease.lease, lease.owner, lease.starts_at, lease.ends_at)
        width = span.at(lease.ends_at) - x
        bars.append(Bar("lease", lease.lease, said, x, width, y, height, lease.owner == caller))
    for bar in bars:
        bar.label = _label(bar, [other for other in bars if other is not bar])
    return bars


def _label(bar: Bar, others: Sequence[Bar]) -> Literal["inside", "beside", ""]:
    """Where its name has room."""
    if bar.height < ROOM / 2:
        return ""
    wide = SIGN * (len(bar.name) + 2)
    if bar.width >= wide:
        return "inside"
    end = bar.x + bar.width
    free = end + wide <= 100 and not any(
        end - 0.01 <= one.x + one.width and one.x < end + wide for one in others
    )
    return "beside" if free else ""


def _said(name: str, owner: str, starts_at: datetime, ends_at: datetime) -> str:
    start, end = starts_at.astimezone(UTC), ends_at.astimezone(UTC)
    until = f"{end:%H:%M}" if start.date() == end.date() else f"{end:%a %d %b %H:%M}"
    return f"{name}, {owner}: {start:%a %d %b %H:%M} to {until} UTC"
