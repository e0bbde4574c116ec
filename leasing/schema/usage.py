"""Usage on the wire: what was allocated against what was used, where devices' time went, and prices.

Seconds throughout. None is "not measured", never 0.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from leasing.schema.base import Request, Wire


class UsageBy(StrEnum):
    """What a line of usage stands for."""

    LEASE = "lease"
    USER = "user"
    PROJECT = "project"
    MODEL = "model"
    DAY = "day"


class DeviceBy(StrEnum):
    """What a line of devices' time stands for."""

    HOUR = "hour"
    DAY = "day"
    DEVICE = "device"
    MODEL = "model"
    NODE = "node"


class UsageAmounts(Wire):
    """What was allocated while containers ran, and what of it was used.

    `…_measured_seconds` say how much of what was allocated was measured at all: the used part of it is
    used / measured.
    """

    device_allocated_seconds: float
    """Device-seconds; half a device for an hour is 1800."""
    device_measured_seconds: float
    device_used_seconds: float | None
    """By utilisation, of what was measured."""
    device_used_ratio: float | None
    """Of what was measured; a part of a device may be used more than it is."""
    cpu_allocated_seconds: float
    cpu_measured_seconds: float
    """Seconds of containers, not of cores: how long CPU and memory were measured."""
    cpu_used_seconds: float | None
    ran_seconds: float
    """So long containers ran."""
    memory_allocated_byte_seconds: float
    memory_used_byte_seconds: float | None
    cost: float | None = None
    """By today's prices; None as soon as one device's model has none."""


class UsageRow(UsageAmounts):
    """One line. `key` is what it stands for: a lease's id, a name, a model (empty for CPU and memory) or a day."""

    key: str
    lease_id: UUID | None = None
    lease: str | None = None
    owner: str | None = None
    project: str | None = None


class UsagePage(Wire):
    """Hours that begin from `since` on and before `until`, the most allocated first; days in their order."""

    since: datetime
    until: datetime
    zone: str
    by: UsageBy
    sealed_until: datetime | None
    """Hours before it change no more; None while nothing is counted yet."""
    items: list[UsageRow]
    total: UsageAmounts
    """Of all lines, on other pages too."""
    priced: bool
    """Whether any price is set."""
    next: str | None = None


class DeviceUsageRow(Wire):
    """Where devices' time went, in device-seconds. The classes sum to `capacity`."""

    key: str
    """A device's UUID, a name, a model, a day, or an hour."""
    node: str | None = None
    model: str | None = None
    capacity: float
    leased: float
    held: float
    """Bound, and no container ran: starting, stopping, cleaning, reserved, kept warm."""
    free: float
    foreign: float
    out: float
    """Cordoned, quarantined or broken."""
    unknown: float


class DeviceUsagePage(Wire):
    """Hours that begin from `since` on and before `until`."""

    since: datetime
    until: datetime
    zone: str
    by: DeviceBy
    sealed_until: datetime | None
    items: list[DeviceUsageRow]
    total: DeviceUsageRow
    next: str | None = None


class PriceIn(Request):
    """What an hour of a whole device costs, in the installation's currency."""

    per_hour: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class PriceOut(Wire):
    """Holds for every device whose model has this as a part of its name; the longest one that fits counts."""

    model: str
    per_hour: float


class PricePage(Wire):
    items: list[PriceOut]


PriceModel = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$")]
