"""Leases, the runs that carry them out, and what a run holds."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from leasing.gpus import WHOLE, GpuAsk
from leasing.model.base import Base, Bytes, Created, Key, Moment, one_of
from leasing.states import EndReason, Goal, LeaseState, SuspendReason, Verdict


class Lease(Base):
    """A developer's time-bound right to a container with devices: the request, the deadline, and where it stands."""

    __tablename__ = "lease"
    __table_args__ = (
        one_of("state", LeaseState),
        one_of("goal", Goal, nullable=True),
        one_of("reason", EndReason, nullable=True),
        one_of("idle_verdict", Verdict, nullable=True),
        one_of("suspend_reason", SuspendReason, nullable=True),
        CheckConstraint("priority BETWEEN -1 AND 1", name="priority"),
        CheckConstraint("(state = 'stopping') = (goal IS NOT NULL)", name="goal_while_stopping"),
        CheckConstraint(
            "state <> 'ended' OR (reason IS NOT NULL AND ended_at IS NOT NULL)", name="ended_has_reason"
        ),
        CheckConstraint("state <> 'running' OR ends_at IS NOT NULL", name="running_has_deadline"),
        Index("uq_lease_live_name", "name", unique=True, postgresql_where=text("state <> 'ended'")),
        Index(
            "uq_lease_live_workspace",
            "workspace_id",
            unique=True,
            postgresql_where=text("state NOT IN ('ended', 'suspended') AND NOT workspace_read_only"),
        ),
        Index("ix_lease_queue", "rank", "arrival", postgresql_where=text("state = 'queued'")),
        Index("ix_lease_work", "state", postgresql_where=text("state IN ('placed', 'starting', 'stopping')")),
        Index("ix_lease_deadline", "ends_at", postgresql_where=text("state <> 'ended'")),
        Index("ix_lease_ended", "ended_at", postgresql_where=text("state = 'ended'")),
        Index("ix_lease_lost", "ended_at", postgresql_where=text("reason = 'lost'")),
        Index("ix_lease_owner_id", "owner_id", "created_at"),
        Index("ix_lease_project_id", "project_id", "created_at"),
    )

    id: Mapped[Key]
    arrival: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    name: Mapped[str]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("project.id"))

    state: Mapped[str] = mapped_column(server_default=LeaseState.QUEUED.value)
    goal: Mapped[str | None]
    reason: Mapped[str | None]
    message: Mapped[str] = mapped_column(server_default="")
    """For people: why it ended, or why its last start failed."""

    image: Mapped[str]
    gpu_count: Mapped[int]
    gpu_model: Mapped[str | None]
    gpu_share: Mapped[int] = mapped_column(server_default="1000")
    """Thousandths of each device. Of an ask for memory: what it is of the largest device there was when asked."""
    gpu_memory_bytes: Mapped[Bytes | None]
    """Set when a part of a device was asked for by its memory."""
    cpus_millis: Mapped[int]
    memory_bytes: Mapped[Bytes]
    shm_bytes: Mapped[Bytes | None]
    command: Mapped[list[str] | None] = mapped_column(JSONB(none_as_null=True))
    env: Mapped[dict[str, str]] = mapped_column(JSONB, server_default=text("'{}'"))
    port: Mapped[int | None]
    endpoint: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    """What was asked of the endpoint besides its port, as `leasing.schema.endpoint.EndpointOptions` says it."""
    shared: Mapped[bool] = mapped_column(server_default=text("false"))
    """With the members of its project, each as far as their role goes."""
    workspace_id: Mapped[UUID | None] = mapped_column(ForeignKey("workspace.id"))
    ttl_seconds: Mapped[int | None]
    """Counted from the moment it runs; None when `until` was asked."""
    until: Mapped[datetime | None]
    idle_timeout_seconds: Mapped[int | None]
    """How long it may be idle, as asked: 0 is never reclaimed as idle, None goes by its policy."""
    on_suspend: Mapped[list[str] | None] = mapped_column(JSONB(none_as_null=True))
    """Run inside the container before it is stopped to be suspended, for a bounded time."""
    asked_seconds: Mapped[int | None]
    """The time it was first asked for: so long it goes on if it is resumed after its time was over."""
    workspace_read_only: Mapped[bool] = mapped_column(server_default=text("false"))
    node_name: Mapped[str | None]
    """Only on the node of that name."""
    node_labels: Mapped[dict[str, str]] = mapped_column(JSONB, server_default=text("'{}'"))
    """Only on nodes with all of these labels."""
    at_least_seconds: Mapped[int | None]
    """A reservation that begins sooner may cut its time down to this; None: the platform's default."""
    reservation_id: Mapped[UUID | None] = mapped_column(ForeignKey("reservation.id"))
    """The reservation whose devices it is to have."""
    priority: Mapped[int] = mapped_column(server_default="0")
    """`Priority.rank` of its class."""
    preemptible: Mapped[bool] = mapped_column(server_default=text("false"))
    wait: Mapped[bool] = mapped_column(server_default=text("true"))
    rank: Mapped[int | None] = mapped_column(BigInteger)
    """Where it stands in the order of service, as the planner last saw it; None: not seen yet, and so last."""

    created_at: Mapped[Created]
    queued_at: Mapped[Created]
    started_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    progress: Mapped[str] = mapped_column(server_default="")
    """What its start is doing now, in one line."""
    blockers: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'"))
    """Why it waits, as the planner last saw it: one sentence each."""
    expected_start: Mapped[datetime | None]
    """While it waits: when there will probably be room; None where nothing tells."""
    latest_start: Mapped[datetime | None]
    """While it waits: when there will be room if everybody stays to the end of their time."""
    attempts: Mapped[int] = mapped_column(server_default="0")
    retry_at: Mapped[datetime | None]
    claim_owner: Mapped[str | None]
    claim_token: Mapped[UUID | None]
    claim_until: Mapped[datetime | None]

    exit_code: Mapped[int | None]
    oom_killed: Mapped[bool] = mapped_column(server_default=text("false"))
    last_log: Mapped[str] = mapped_column(server_default="")
    """The last lines of its output, kept when the container goes."""
    told_ends_at: Mapped[datetime | None]
    """The deadline that stands in the container's own info file."""
    told_reclaim_at: Mapped[datetime | None]
    """And when it will be taken back, as that file says it."""

    idle_verdict: Mapped[str | None]
    idle_reason: Mapped[str] = mapped_column(server_default="")
    idle_since: Mapped[datetime | None]
    """Since when every signal has been quiet; None while one is active or unknown. Idle once that is its window."""
    reclaim_at: Mapped[datetime | None]
    """When it will be taken back as idle if nothing moves before; None while it will not."""
    device_fault: Mapped[str] = mapped_column(server_default="")
    """What is wrong with its devices as seen from inside the container; empty while nothing is."""

    suspended_at: Mapped[datetime | None]
    suspend_reason: Mapped[str | None]
    kept_node_id: Mapped[UUID | None] = mapped_column(ForeignKey("node.id"))
    """While it is suspended or waits to go on: the node that keeps its files."""
    kept_container: Mapped[str | None]
    """Name of the stopped container with its files."""
    kept_image: Mapped[str | None]
    """The container's files as an image, once made for its going on."""
    keeps: Mapped[str] = mapped_column(server_default="")
    """While it is suspended: what of it is kept, in words; more is never promised."""
    kept_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """What those files take on the node's disk, besides the image that they began with."""
    retain_until: Mapped[datetime | None]
    """While it is suspended: when it ends and its files go; None while they stay."""

    @property
    def gpu(self) -> GpuAsk:
        """What it asks of devices."""
        share = WHOLE if self.gpu_memory_bytes is not None else self.gpu_share
        return GpuAsk(self.gpu_count, self.gpu_model, share, self.gpu_memory_bytes)


class Run(Base):
    """One generation of a lease on a node: its CPUs, memory and container. Open until `released_at`."""

    __tablename__ = "run"
    __table_args__ = (
        UniqueConstraint("lease_id", "generation"),
        Index("uq_run_open", "lease_id", unique=True, postgresql_where=text("released_at IS NULL")),
        Index("uq_run_container", "container_id", unique=True, postgresql_where=text("released_at IS NULL")),
        Index("uq_run_warm_id", "warm_id", unique=True),
        Index("ix_run_released_at", "released_at"),
        Index("ix_run_node_open", "node_id", postgresql_where=text("released_at IS NULL")),
    )

    id: Mapped[Key]
    lease_id: Mapped[UUID] = mapped_column(ForeignKey("lease.id"))
    generation: Mapped[int]
    node_id: Mapped[UUID] = mapped_column(ForeignKey("node.id"))
    cpus_millis: Mapped[int]
    memory_bytes: Mapped[Bytes]
    container_id: Mapped[str | None]
    image_id: Mapped[str | None]
    epoch: Mapped[str | None]
    """The engine's epoch in which the container was last started."""
    address: Mapped[str | None]
    inapplicable: Mapped[dict[str, str]] = mapped_column(JSONB, server_default=text("'{}'"))
    """Signal -> why it can say nothing of this run; fixed by its first sample."""
    stop_first: Mapped[bool] = mapped_column(server_default=text("false"))
    """Its container is to be stopped before it is started again: a restart was asked for."""
    warm_id: Mapped[UUID | None] = mapped_column(ForeignKey("warm.id", ondelete="SET NULL"))
    """The warm container that it was given, or the sandbox whose network it joined; None once that is gone."""
    ready: Mapped[str | None]
    """Which of the two it was given when it was placed; None: neither."""
    placed_at: Mapped[Created]
    started_at: Mapped[datetime | None]
    missing_since: Mapped[datetime | None]
    """Since when its engine, started anew, has not known its container; None while it does."""
    stopped_at: Mapped[datetime | None]
    released_at: Mapped[datetime | None]


class Allocation(Base):
    """A run's share of a device, in thousandths, with its memory in bytes."""

    __tablename__ = "allocation"
    __table_args__ = (
        CheckConstraint("share BETWEEN 1 AND 1000", name="share"),
        CheckConstraint("memory_bytes >= 0", name="memory"),
        Index(
            "uq_allocation_open",
            "run_id",
            "device_id",
            unique=True,
            postgresql_where=text("released_at IS NULL"),
        ),
        Index("ix_allocation_device_open", "device_id", postgresql_where=text("released_at IS NULL")),
    )

    id: Mapped[Key]
    run_id: Mapped[UUID] = mapped_column(ForeignKey("run.id"), index=True)
    device_id: Mapped[UUID] = mapped_column(ForeignKey("device.id"))
    share: Mapped[int]
    memory_bytes: Mapped[Bytes]
    created_at: Mapped[Created]
    released_at: Mapped[datetime | None]


class AllocationSample(Base):
    """What a lease was last seen to use of a device: by its own processes, as NVML lists them."""

    __tablename__ = "allocation_sample"

    allocation_id: Mapped[UUID] = mapped_column(
        ForeignKey("allocation.id", ondelete="CASCADE"), primary_key=True
    )
    at: Mapped[Moment]
    memory_used_bytes: Mapped[Bytes]
    over_since: Mapped[datetime | None]
    """Since when it has used more memory than its share; None while it does not."""
    warned_at: Mapped[datetime | None]


class Forecast(Base):
    """What a waiting lease was first told of its start, and when it then had its place: how good forecasts are."""

    __tablename__ = "forecast"
    __table_args__ = (Index("ix_forecast_placed_at", "placed_at"),)

    lease_id: Mapped[UUID] = mapped_column(ForeignKey("lease.id", ondelete="CASCADE"), primary_key=True)
    told_at: Mapped[Moment] = mapped_column(primary_key=True)
    expected_start: Mapped[Moment]
    latest_start: Mapped[datetime | None]
    foreseen_start: Mapped[Moment]
    """What the queue played forward gave, before it was corrected by how such forecasts came out."""
    ahead: Mapped[int]
    """So many were before it."""
    placed_at: Mapped[datetime | None]


class IdempotencyKey(Base):
    """The answer to a create that may be sent again. Pruned after a day."""

    __tablename__ = "idempotency_key"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    lease_id: Mapped[UUID] = mapped_column(ForeignKey("lease.id"))
    created_at: Mapped[Created]
