"""What happened and what was measured: events, signals of activity, the last sample of a run."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from leasing.model.base import Base, Bytes, Created, Moment, one_of


class Event(Base):
    """A past-tense audit row: who did what to which, and why. Inserting one wakes every listener."""

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_lease_id", "lease_id", "id"),
        Index("ix_event_at", "at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[Created]
    actor: Mapped[str]
    """`user:ada`, `scheduler`, `node:gpu1`, `system`."""
    kind: Mapped[str]
    """What happened, dotted: `lease.running`, `device.foreign`, `user.created`."""
    message: Mapped[str]
    lease_id: Mapped[UUID | None] = mapped_column(ForeignKey("lease.id"))
    node_id: Mapped[UUID | None] = mapped_column(ForeignKey("node.id", ondelete="SET NULL"))
    device_id: Mapped[UUID | None] = mapped_column(ForeignKey("device.id", ondelete="SET NULL"))
    from_state: Mapped[str | None]
    to_state: Mapped[str | None]
    reason: Mapped[str | None]
    data: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))


class SignalKind(StrEnum):
    """A way in which a lease shows activity."""

    GPU = "gpu"
    """Utilisation of its devices, by its own processes where a device is shared: 0 to 1."""
    GPU_MEMORY = "gpu_memory"
    """Change of the device memory in use, bytes."""
    CPU = "cpu"
    """Cores in use."""
    DISK = "disk"
    """Bytes read and written a second."""
    NETWORK = "network"
    """Bytes a second, both ways."""
    ENDPOINT = "endpoint"
    """Requests that somebody made; what a tab asks for by itself does not count."""
    TERMINAL = "terminal"
    """Bytes that somebody typed, in terminals and SSH sessions."""
    KERNEL = "kernel"
    """Jupyter kernels that are busy."""
    KEEP = "keep"
    """1 while it is explicitly kept."""


class Signal(Base):
    """What one signal of a lease has shown: enough to say, for any window, active, quiet or unknown.

    Known without a gap since `known_since`; last heard at `seen_at`; last active at `active_at`.
    """

    __tablename__ = "signal"
    __table_args__ = (one_of("kind", SignalKind),)

    lease_id: Mapped[UUID] = mapped_column(ForeignKey("lease.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]
    known_since: Mapped[Moment]
    seen_at: Mapped[Moment]
    active_at: Mapped[datetime | None]
    minute: Mapped[datetime | None]
    """Of the last reading."""
    peak: Mapped[float | None]
    """Its highest value in that minute."""
    last_peak: Mapped[float | None]
    """The same of the minute before; None if it was not heard then."""


class RunSample(Base):
    """The last sample of a run's container; counters are the container's own."""

    __tablename__ = "run_sample"

    run_id: Mapped[UUID] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    at: Mapped[Moment]
    cpu_seconds_total: Mapped[float]
    cpu_cores: Mapped[float | None]
    """Cores in use between the last two samples; None after only one."""
    memory_working_set_bytes: Mapped[Bytes]
    network_rx_bytes_total: Mapped[Bytes | None]
    network_tx_bytes_total: Mapped[Bytes | None]
    disk_bytes_total: Mapped[Bytes | None]
    own_bytes_total: Mapped[Bytes | None]
    """What open pages had asked for by themselves (`Traffic`)."""
    network_bytes_per_second: Mapped[float | None]
    """Over the last minute or so, without what open pages asked for by themselves; None until that is known."""
    gpu_utilization_ratio: Mapped[float | None]
    gpu_memory_used_bytes: Mapped[Bytes | None]
    gpu_used_seconds_total: Mapped[float | None]
    """Utilisation of all its devices over time; what passed between two samples that lie far apart is left out."""


class Traffic(Base):
    """What the gateway has carried for a lease's endpoint."""

    __tablename__ = "traffic"

    lease_id: Mapped[UUID] = mapped_column(ForeignKey("lease.id", ondelete="CASCADE"), primary_key=True)
    requests_total: Mapped[int] = mapped_column(BigInteger, server_default="0")
    bytes_in_total: Mapped[Bytes] = mapped_column(server_default="0")
    bytes_out_total: Mapped[Bytes] = mapped_column(server_default="0")
    own_bytes_total: Mapped[Bytes] = mapped_column(server_default="0")
    """Of what open pages asked for by themselves, about as the container's network counts it."""
    cache_hits_total: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Calls that were answered from the cache. Those that were none of its business are in neither."""
    cache_misses_total: Mapped[int] = mapped_column(BigInteger, server_default="0")
    updated_at: Mapped[Created]


class CallTime(Base):
    """How long calls of endpoints took: one bucket of the histogram of all of them."""

    __tablename__ = "call_time"
    BOUNDS: ClassVar = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
    """Seconds; above the last, a call stands in a bucket without a bound."""

    upto: Mapped[float] = mapped_column(primary_key=True)
    """Seconds; infinite for the last. A call stands in the smallest bucket that it fits, and in no other."""
    calls_total: Mapped[int] = mapped_column(BigInteger, server_default="0")
    seconds_total: Mapped[float] = mapped_column(server_default="0")
