"""LEASING_SCHEDULER_*: how often the loops look, and how long they are patient."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class SchedulerSettings(BaseSettings):
    """Intervals back up the notifications that normally wake the loops."""

    model_config = SettingsConfigDict(env_prefix="LEASING_SCHEDULER_")

    workers: int = Field(default=24, ge=1, le=128, description="Leases started or stopped at the same time.")
    plan_seconds: float = Field(default=2.0, gt=0, description="The planner looks at least so often.")
    work_seconds: float = Field(
        default=1.0, gt=0, description="Workers look for leases to start or stop so often."
    )
    reclaim_seconds: float = Field(
        default=2.0, gt=0, description="Deadlines and idleness are looked at so often."
    )
    reconcile_seconds: float = Field(default=5.0, gt=0, description="Engines and rows are compared so often.")
    claim_seconds: int = Field(
        default=45,
        ge=5,
        description="A worker that is silent for so long loses the lease it works on to another.",
    )
    start_attempts: int = Field(
        default=3, ge=1, description="A start is tried so often before its lease fails."
    )
    retry_seconds: float = Field(
        default=3.0, gt=0, description="Pause before a start or stop is tried again."
    )
    stop_grace_seconds: int = Field(
        default=10, ge=0, description="A container has so long between the request to stop and being killed."
    )
    hook_seconds: int = Field(
        default=60,
        ge=1,
        le=600,
        description="A lease's on-suspend command has so long before it is cut off; its devices are held meanwhile.",
    )
    flatten_after: int = Field(
        default=20,
        ge=1,
        le=60,
        description="After so many suspensions a lease's files are made one layer again, while it rests.",
    )
    orphan_grace_seconds: float = Field(
        default=60.0, ge=0, description="A container without a live lease is removed after so long."
    )
    missing_seconds: float = Field(
        default=600.0,
        ge=0,
        description="What is missing on an engine that was started anew, as while its disk is not mounted, is taken "
        "for gone after so long.",
    )
    lost_keep_days: float = Field(
        default=7.0,
        ge=0,
        description="A container that is found again after its lease ended as lost, as once its disk is mounted, is "
        "stopped and kept so long from that end, for its files.",
    )
    image_keep_hours: float = Field(
        default=72.0,
        ge=0,
        description="An image that leases used is kept so long after its last use if disk runs low.",
    )
    workspaces_seconds: float = Field(
        default=10.0, gt=0, description="Between two looks after workspaces: deleted ones go, use is noted."
    )
    workspace_measure_seconds: float = Field(
        default=600.0, gt=0, description="A workspace in use is measured so often."
    )
    disk_reserve_bytes: int = Field(
        default=2 * 1024**3,
        ge=0,
        description="Nothing is started on an engine with less free disk than this.",
    )
    fair_share: bool = Field(
        default=True,
        description="Among projects, who has used least of its part comes first; off: who came first.",
    )
    fair_share_half_life_hours: float = Field(
        default=24.0, gt=0, description="What a project used so long ago counts for half."
    )
    backfill: bool = Field(
        default=True, description="Leases that delay nobody may go ahead of those that have no room yet."
    )
    preemption: bool = Field(
        default=True, description="Preemptible leases are suspended for leases that come before them."
    )
    device_lost_seconds: float = Field(
        default=30.0,
        ge=0,
        description="A preemptible lease is moved away from a device that has been lost for so long.",
    )
    at_least_seconds: int = Field(
        default=1800,
        ge=60,
        description="A reservation may cut the time of a lease that does not say otherwise down to so long.",
    )
    reservation_grace_seconds: int = Field(
        default=900,
        ge=0,
        description="A reservation under which nobody has asked for a lease so long after its start is given back.",
    )
