"""Devices held for a later range of time."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import TSTZRANGE, ExcludeConstraint, Range
from sqlalchemy.orm import Mapped, mapped_column

from leasing.gpus import GpuAsk
from leasing.model.base import Base, Bytes, Created, Key, Moment, one_of
from leasing.states import ReservationState


class Reservation(Base):
    """Whole devices of one node, with CPUs and memory, from a moment to another, for whoever leases under its name."""

    __tablename__ = "reservation"
    __table_args__ = (
        one_of("state", ReservationState),
        CheckConstraint("starts_at < ends_at", name="range"),
        CheckConstraint("gpu_count > 0 AND cpus_millis >= 0 AND memory_bytes >= 0", name="positive"),
        Index(
            "uq_reservation_live_name",
            "name",
            unique=True,
            postgresql_where=text("state IN ('booked', 'used')"),
        ),
        Index("ix_reservation_starts_at", "starts_at"),
    )

    id: Mapped[Key]
    name: Mapped[str]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("project.id"))
    node_id: Mapped[UUID] = mapped_column(ForeignKey("node.id", ondelete="CASCADE"))
    gpu_count: Mapped[int]
    gpu_model: Mapped[str | None]
    cpus_millis: Mapped[int]
    memory_bytes: Mapped[Bytes]
    starts_at: Mapped[Moment]
    ends_at: Mapped[Moment]
    state: Mapped[str] = mapped_column(server_default=ReservationState.BOOKED.value)
    message: Mapped[str] = mapped_column(server_default="")
    """For people: why it is not as it was booked."""
    late_since: Mapped[datetime | None]
    """Since when it should have had its devices, which somebody has not left yet; None while nothing is late."""
    created_at: Mapped[Created]

    @property
    def gpu(self) -> GpuAsk:
        """The devices that it was booked for."""
        return GpuAsk(self.gpu_count, self.gpu_model)


class ReservedDevice(Base):
    """A device that a reservation is bound to. The database refuses two at the same time."""

    __tablename__ = "reserved_device"
    __table_args__ = (
        ExcludeConstraint(
            (text("int4range(device_number, device_number, '[]')"), "&&"),
            ("during", "&&"),
            name="ex_reserved_device_during",
            using="gist",
            where=text("live"),
        ),
        Index("uq_reserved_device", "reservation_id", "device_id", unique=True),
    )

    id: Mapped[Key]
    reservation_id: Mapped[UUID] = mapped_column(ForeignKey("reservation.id", ondelete="CASCADE"))
    device_id: Mapped[UUID] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"))
    device_number: Mapped[int]
    during: Mapped[Range[datetime]] = mapped_column(TSTZRANGE)
    live: Mapped[bool] = mapped_column(server_default=text("true"))
    """Whether its reservation still holds it."""
