"""What was used: sealed hourly buckets of leases and of devices, and what a device-hour costs."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from leasing.model.base import Base, Moment


class UsageHour(Base):
    """What one lease had and used within one hour, of one device model. `model` is empty for CPU and memory."""

    __tablename__ = "usage_hour"
    __table_args__ = (
        CheckConstraint("allocated_seconds >= 0 AND used_seconds >= 0", name="seconds"),
        Index("ix_usage_hour_hour", "hour"),
    )

    lease_id: Mapped[UUID] = mapped_column(ForeignKey("lease.id", ondelete="CASCADE"), primary_key=True)
    hour: Mapped[Moment] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    allocated_seconds: Mapped[float] = mapped_column(server_default="0")
    """Device-seconds while its container ran, parts as such."""
    used_seconds: Mapped[float | None]
    """Device-seconds by utilisation; None: not measured."""
    cpu_allocated_seconds: Mapped[float] = mapped_column(server_default="0")
    cpu_used_seconds: Mapped[float | None]
    memory_allocated_byte_seconds: Mapped[float] = mapped_column(server_default="0")
    memory_used_byte_seconds: Mapped[float | None]
    sealed: Mapped[bool] = mapped_column(server_default=text("false"))
    """The hour is over and counted; a sealed bucket changes no more."""


class DeviceHour(Base):
    """Where the seconds of one device went within one hour. Every one is in exactly one class."""

    __tablename__ = "device_hour"
    __table_args__ = (
        CheckConstraint(
            "leased >= 0 AND held >= 0 AND free >= 0 AND foreign_use >= 0 AND out >= 0 AND unknown >= 0",
            name="classes",
        ),
        Index("ix_device_hour_hour", "hour"),
    )

    device_id: Mapped[UUID] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"), primary_key=True)
    hour: Mapped[Moment] = mapped_column(primary_key=True)
    leased: Mapped[float] = mapped_column(server_default="0")
    held: Mapped[float] = mapped_column(server_default="0")
    """Starting, stopping, cleaning, reserved, or bound to a warm container."""
    free: Mapped[float] = mapped_column(server_default="0")
    foreign_use: Mapped[float] = mapped_column(server_default="0")
    out: Mapped[float] = mapped_column(server_default="0")
    """Cordoned or quarantined."""
    unknown: Mapped[float] = mapped_column(server_default="0")
    counted_until: Mapped[datetime]
    sealed: Mapped[bool] = mapped_column(server_default=text("false"))


class Price(Base):
    """What an hour of a device of that model costs, in the installation's currency."""

    __tablename__ = "price"

    model: Mapped[str] = mapped_column(primary_key=True)
    per_hour: Mapped[float]
