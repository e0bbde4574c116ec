"""Reservations on the wire: what is booked, and the calendar of what is taken when."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field, model_validator

from leasing.schema.base import Request, Wire


class ReservationRequest(Request):
    """Whole devices of one node for a range of time: from `starts_at`, for `ttl` or until `until`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "review",
                    "gpu": "A100:2",
                    "cpus": "8",
                    "memory": "64G",
                    "starts_at": "2026-01-31T14:00:00Z",
                    "ttl": "4h",
                }
            ]
        }
    )

    name: str | None = Field(None, description="DNS label of up to 40 characters; one is made up if absent.")
    gpu: str = Field("1", max_length=80, description="Whole devices: `1`, `A100:2`, `1g.10gb`.")
    cpus: str | None = Field(None, max_length=20, description="Cores: `2`, `0.5`.")
    memory: str | None = Field(None, max_length=20, description="`16G`.")
    project: str = Field("default", max_length=40, description="Its members may lease under the reservation.")
    node: str | None = Field(None, max_length=255, description="Only on the node of that name.")
    starts_at: AwareDatetime | None = Field(None, description="The moment it begins; absent: now.")
    ttl: str | None = Field(None, max_length=40, description="How long: `4h`. Not with `until`.")
    until: AwareDatetime | None = Field(None, description="The moment it ends. Not with `ttl`.")

    @model_validator(mode="after")
    def _one_end(self) -> ReservationRequest:
        if (self.ttl is None) == (self.until is None):
            raise ValueError("give one of ttl and until")
        return self


class ReservedDeviceOut(Wire):
    """A device that a reservation has."""

    uuid: str
    index: int
    model: str


class ReservationOut(Wire):
    """A reservation, as everybody sees it."""

    id: UUID
    name: str
    state: str
    message: str
    """Why it is not as it was booked; empty if it is."""
    owner: str
    project: str
    node: str
    gpu: str
    cpus: float
    memory_bytes: int
    starts_at: datetime
    ends_at: datetime
    late_since: datetime | None
    """Since when somebody keeps a device of it waiting who should have left; None while nobody does."""
    devices: list[ReservedDeviceOut]
    leases: list[str]
    """Live leases under it."""
    created_at: datetime


class HeldOut(Wire):
    """A lease in the calendar: until when it has which devices at the latest."""

    lease: str
    owner: str
    reservation: str | None
    node: str
    devices: list[ReservedDeviceOut]
    starts_at: datetime
    ends_at: datetime


class ReservationPage(Wire):
    """What overlaps the range that was asked for, the first to begin first."""

    items: list[ReservationOut]
    leases: list[HeldOut]
    """Who has devices now, and until when."""
