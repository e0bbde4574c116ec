"""What is kept ready on nodes before anybody asks: waiting containers, and networks for any start to join."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from leasing.model.base import Base, Bytes, Created, Key, one_of
from leasing.states import WarmRole, WarmState


class Warm(Base):
    """A warm container or a network sandbox on a node. The row, not a label, binds it to a lease."""

    __tablename__ = "warm"
    __table_args__ = (
        one_of("role", WarmRole),
        one_of("state", WarmState),
        Index("ix_warm_ready", "node_id", "role", postgresql_where=text("state = 'ready'")),
    )

    id: Mapped[Key]
    node_id: Mapped[UUID] = mapped_column(ForeignKey("node.id", ondelete="CASCADE"))
    role: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=WarmState.MAKING.value)
    image: Mapped[str | None]
    """Of a warm container: the environment or image, as leases ask for it."""
    image_id: Mapped[str | None]
    device_id: Mapped[UUID | None] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"), index=True)
    """Of one that is bound to a device in advance."""
    cpus_millis: Mapped[int] = mapped_column(server_default="0")
    memory_bytes: Mapped[Bytes] = mapped_column(server_default="0")
    maker_id: Mapped[UUID | None] = mapped_column(ForeignKey("part.id", ondelete="SET NULL"))
    """The scheduler that makes it, or did."""
    container_id: Mapped[str | None]
    address: Mapped[str | None]
    epoch: Mapped[str | None]
    """The engine's epoch in which it was started: it does not outlive it."""
    created_at: Mapped[Created]
    ready_at: Mapped[datetime | None]
    taken_at: Mapped[datetime | None]


class WarmPool(Base):
    """What an admin wants to be kept ready: so many containers of an environment on each node, or on one."""

    __tablename__ = "warm_pool"
    __table_args__ = (
        CheckConstraint("count BETWEEN 1 AND 64", name="count"),
        UniqueConstraint("image", "node_id", "gpu_model", postgresql_nulls_not_distinct=True),
    )

    id: Mapped[Key]
    image: Mapped[str]
    """As leases ask for it."""
    node_id: Mapped[UUID | None] = mapped_column(ForeignKey("node.id", ondelete="CASCADE"))
    """None: on every node that is open."""
    gpu_model: Mapped[str | None]
    """Each bound to a free device whose model has this in its name; None: without a device."""
    count: Mapped[int]
    cpus_millis: Mapped[int]
    memory_bytes: Mapped[Bytes]
    created_at: Mapped[Created]
