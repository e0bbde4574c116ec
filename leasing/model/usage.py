"""What was used: when containers ran, how devices were, and the sealed hours that are counted from both.

Time is counted in nanoseconds, as whole numbers: a thousandth of a device for a microsecond is one. So nothing is lost
in rounding, and sums are equal or wrong.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Double, ForeignKey, Identity, Index
from sqlalchemy.orm import Mapped, mapped_column

from leasing.accounting import Condition
from leasing.model.base import Base, Moment, one_of

HOUR_NS = 3600 * 10**9


class Counting(Base):
    """How far a node's time has been watched and counted."""

    __tablename__ = "counting"

    node_id: Mapped[UUID] = mapped_column(ForeignKey("node.id", ondelete="CASCADE"), primary_key=True)
    compared_at: Mapped[datetime | None]
    """Its engine last said then that every container runs whose lease does."""
    looked_at: Mapped[datetime | None]
    """Its devices' conditions were last looked at then."""
    sealed_until: Mapped[Moment]
    """Every hour before it is sealed: its rows change no more."""


class RunSpan(Base):
    """A time in which a run's container ran; one more with each restart. Kept by a trigger on `run`."""

    __tablename__ = "run_span"
    __table_args__ = (
        CheckConstraint("until >= since", name="range"),
        Index("ix_run_span_run_id", "run_id"),
        Index("ix_run_span_until", "until"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    since: Mapped[Moment]
    until: Mapped[datetime | None]
    """None while it runs, as far as is known."""


class RunUse(Base):
    """What was measured of a run within one hour that is not sealed yet.

    `model` is a device model's, or empty for CPU and memory. What could not be measured is in none of them.
    """

    __tablename__ = "run_use"

    run_id: Mapped[UUID] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    hour: Mapped[Moment] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    measured: Mapped[float] = mapped_column(Double)
    """Device-seconds that it had and that were measured, parts as such; of CPU and memory: seconds."""
    used: Mapped[float] = mapped_column(Double)
    """Device-seconds, or CPU-seconds."""
    memory_byte_seconds: Mapped[float] = mapped_column(Double, server_default="0")


class DeviceSpan(Base):
    """How a device was, apart from what is leased of it. One span is open; before the first nothing is known."""

    __tablename__ = "device_span"
    __table_args__ = (
        one_of("condition", Condition),
        CheckConstraint("until >= since", name="range"),
        Index("ix_device_span_device_id", "device_id", "since"),
        Index("ix_device_span_until", "until"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    device_id: Mapped[UUID] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"))
    condition: Mapped[str]
    since: Mapped[Moment]
    until: Mapped[datetime | None]


class UsageHour(Base):
    """What one run of a lease had and used within a sealed hour, of one device model.

    The row with an empty `model` holds CPU and memory. A lease's bucket is its runs' together.
    """

    __tablename__ = "usage_hour"
    __table_args__ = (
        CheckConstraint("allocated_ns >= 0 AND cpu_allocated_ns >= 0", name="allocated"),
        CheckConstraint(f"ran_ns BETWEEN 0 AND {HOUR_NS}", name="ran"),
        CheckConstraint("(used_seconds IS NULL) = (measured_seconds = 0)", name="measured"),
        Index("ix_usage_hour_hour", "hour"),
        Index("ix_usage_hour_owner_id", "owner_id", "hour"),
        Index("ix_usage_hour_project_id", "project_id", "hour"),
    )

    run_id: Mapped[UUID] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    hour: Mapped[Moment] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    lease_id: Mapped[UUID] = mapped_column(ForeignKey("lease.id", ondelete="CASCADE"), index=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    """As it was then."""
    project_id: Mapped[UUID] = mapped_column(ForeignKey("project.id"))
    """As it was then."""
    ran_ns: Mapped[int] = mapped_column(BigInteger)
    """So long its container ran."""
    allocated_ns: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Device-time while its container ran, parts as such."""
    cpu_allocated_ns: Mapped[int] = mapped_column(BigInteger, server_default="0")
    memory_allocated_byte_seconds: Mapped[float] = mapped_column(Double, server_default="0")
    measured_seconds: Mapped[float] = mapped_column(Double, server_default="0")
    """How much of what was allocated was also measured: device-seconds, or seconds of CPU and memory."""
    used_seconds: Mapped[float | None] = mapped_column(Double)
    """Device-seconds by utilisation, or CPU-seconds; None: not measured."""
    memory_used_byte_seconds: Mapped[float | None] = mapped_column(Double)


class DeviceHour(Base):
    """Where the time of one device went within a sealed hour. All of it is in exactly one class."""

    __tablename__ = "device_hour"
    __table_args__ = (
        CheckConstraint(
            "leased >= 0 AND held >= 0 AND free >= 0 AND foreign_use >= 0 AND out >= 0 AND unknown >= 0",
            name="classes",
        ),
        CheckConstraint("leased + held + free + foreign_use + out + unknown = capacity", name="sum"),
        CheckConstraint(f"capacity BETWEEN 0 AND {HOUR_NS}", name="capacity"),
        Index("ix_device_hour_hour", "hour"),
    )

    device_id: Mapped[UUID] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"), primary_key=True)
    hour: Mapped[Moment] = mapped_column(primary_key=True)
    capacity: Mapped[int] = mapped_column(BigInteger)
    """So long it was there to be leased, in nanoseconds, as all of these."""
    leased: Mapped[int] = mapped_column(BigInteger)
    held: Mapped[int] = mapped_column(BigInteger)
    free: Mapped[int] = mapped_column(BigInteger)
    foreign_use: Mapped[int] = mapped_column(BigInteger)
    out: Mapped[int] = mapped_column(BigInteger)
    unknown: Mapped[int] = mapped_column(BigInteger)


class DeviceTotal(Base):
    """All sealed hours of one device together, whether their rows are still kept or not; nanoseconds."""

    __tablename__ = "device_total"

    device_id: Mapped[UUID] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"), primary_key=True)
    leased: Mapped[int] = mapped_column(BigInteger)
    held: Mapped[int] = mapped_column(BigInteger)
    free: Mapped[int] = mapped_column(BigInteger)
    foreign_use: Mapped[int] = mapped_column(BigInteger)
    out: Mapped[int] = mapped_column(BigInteger)
    unknown: Mapped[int] = mapped_column(BigInteger)


class Price(Base):
    """What an hour of a device of that model costs, in the installation's currency."""

    __tablename__ = "price"
    __table_args__ = (CheckConstraint("per_hour >= 0", name="per_hour"),)

    model: Mapped[str] = mapped_column(primary_key=True)
    per_hour: Mapped[float]
