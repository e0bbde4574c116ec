"""The installation, its nodes and devices, what is used of them, and the processes of the platform."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, LargeBinary, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from leasing.model.base import Base, Bytes, Created, Key, one_of
from leasing.states import DeviceHealth, NodeHealth, NodeIntent


class Installation(Base):
    """The one row that says whose containers these are; `id` stands in every name and label on an engine."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    id: Mapped[str]
    created_at: Mapped[Created]
    clock_jumped_at: Mapped[datetime | None]
    """A scheduler last found then that the clock had been set, or that no scheduler had watched it."""


class Node(Base):
    """A machine that runs containers."""

    __tablename__ = "node"
    __table_args__ = (one_of("health", NodeHealth), one_of("intent", NodeIntent))

    id: Mapped[Key]
    name: Mapped[str] = mapped_column(unique=True)
    driver: Mapped[str]
    address: Mapped[str]
    """Where its engine answers, in the driver's own form; empty means the driver's default on this machine."""
    health: Mapped[str] = mapped_column(server_default=NodeHealth.UNREACHABLE.value)
    health_reason: Mapped[str] = mapped_column(server_default="")
    intent: Mapped[str] = mapped_column(server_default=NodeIntent.OPEN.value)
    token_hash: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True)
    """Of the token with which its sampler reports."""
    engine: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    """The last probe: version, epoch, gpu_runtime and more, for people."""
    engine_seen_at: Mapped[datetime | None]
    engine_since: Mapped[datetime | None]
    """Since when it has been seen in its present epoch: what is missing on it right after a start may yet come back."""
    sampler_seen_at: Mapped[datetime | None]
    sampler: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    """The last report's node facts: boot id, CPU and memory in use, driver version or why there is none."""
    labels: Mapped[dict[str, str]] = mapped_column(JSONB, server_default=text("'{}'"))
    """What admins say of it, for leases that ask for it."""
    topology: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'"))
    created_at: Mapped[Created]


class NodeUsage(Base):
    """What is placed on a node against what it has; kept by a trigger on `run`, refused by CHECKs."""

    __tablename__ = "node_usage"
    __table_args__ = (
        CheckConstraint("cpus_used_millis BETWEEN 0 AND cpus_millis", name="cpus"),
        CheckConstraint("memory_used_bytes BETWEEN 0 AND memory_bytes", name="memory"),
    )

    node_id: Mapped[UUID] = mapped_column(ForeignKey("node.id", ondelete="CASCADE"), primary_key=True)
    cpus_millis: Mapped[int]
    cpus_used_millis: Mapped[int] = mapped_column(server_default="0")
    memory_bytes: Mapped[Bytes]
    memory_used_bytes: Mapped[Bytes] = mapped_column(server_default="0")


class Device(Base):
    """One GPU or MIG instance, known by its NVML UUID, with what NVML last said of it."""

    __tablename__ = "device"
    __table_args__ = (UniqueConstraint("node_id", "uuid"), one_of("health", DeviceHealth))

    id: Mapped[Key]
    number: Mapped[int] = mapped_column(Identity(always=True), unique=True)
    """For the calendar: an exclusion constraint needs no extension on a number."""
    node_id: Mapped[UUID] = mapped_column(ForeignKey("node.id", ondelete="CASCADE"))
    uuid: Mapped[str] = mapped_column(index=True)
    parent_uuid: Mapped[str | None]
    index: Mapped[int]
    model: Mapped[str]
    memory_bytes: Mapped[Bytes]
    numa_node: Mapped[int | None]
    pci_bus_id: Mapped[str | None]
    mig_enabled: Mapped[bool] = mapped_column(server_default=text("false"))
    health: Mapped[str]
    health_reason: Mapped[str] = mapped_column(server_default="")
    intent: Mapped[str] = mapped_column(server_default=NodeIntent.OPEN.value)
    foreign_since: Mapped[datetime | None]
    """Since when a process that no lease owns has been on it; None while there is none."""
    foreign_processes: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'"))
    utilization_ratio: Mapped[float | None]
    memory_used_bytes: Mapped[Bytes | None]
    power_watts: Mapped[float | None]
    temperature_celsius: Mapped[float | None]
    sampled_at: Mapped[datetime | None]
    cleared_at: Mapped[datetime | None]
    """The last sample that proved it clean: nobody's process on it, its memory back to its floor, no new fault."""
    floor_bytes: Mapped[Bytes | None]
    """Memory that NVML reports as used while nothing runs on it."""
    faults: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    """Counters of faults (Xid, ECC) as of the last sample that proved it clean."""
    quarantined_since: Mapped[datetime | None]
    """Since when it has been left out because it did not become clean after a lease; None while it is not."""
    quarantine_reason: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[Created]


class DeviceUsage(Base):
    """What is allocated of a device against what it has; kept by a trigger on `allocation`, refused by CHECKs.

    The parent of MIG instances has capacity 0: it is leased through them.
    """

    __tablename__ = "device_usage"
    __table_args__ = (
        CheckConstraint("share_used BETWEEN 0 AND share", name="share"),
        CheckConstraint("memory_used_bytes BETWEEN 0 AND memory_bytes", name="memory"),
    )

    device_id: Mapped[UUID] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"), primary_key=True)
    share: Mapped[int]
    share_used: Mapped[int] = mapped_column(server_default="0")
    released_at: Mapped[datetime | None]
    """When a lease last gave back a part of it; kept by the same trigger. Leased anew only once proven clean since."""
    memory_bytes: Mapped[Bytes]
    memory_used_bytes: Mapped[Bytes] = mapped_column(server_default="0")


class Part(Base):
    """A process of the platform, by its own heartbeat."""

    __tablename__ = "part"

    id: Mapped[Key]
    role: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[Created]
    seen_at: Mapped[Created]
    grants: Mapped[str | None]
    """Of a gateway: the snapshot (`pg_snapshot`) of the rows by which it lets callers in."""
