"""LEASING_LIMITS_*: defaults and ceilings of what a lease may ask."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LimitSettings(BaseSettings):
    """What a lease gets when it does not say, and the most it may ask."""

    model_config = SettingsConfigDict(env_prefix="LEASING_LIMITS_")

    default_ttl_seconds: int = Field(
        default=4 * 3600, ge=60, description="A lease that names no time runs so long."
    )
    max_ttl_seconds: int = Field(
        default=7 * 86400, ge=60, description="The longest a lease may be asked or extended for, from now."
    )
    extend_seconds: int = Field(
        default=2 * 3600,
        ge=60,
        description="lease extend without a time, and one click on a warning, extend by so much.",
    )
    extend_retention_seconds: int = Field(
        default=3 * 86400, ge=60, description="The same for the files of a suspended lease."
    )
    devices_per_user: int = Field(
        default=8, ge=0, description="Devices one user's live leases may hold or wait for together."
    )
    leases_per_user: int = Field(default=50, ge=1, description="Live leases one user may have.")
    default_cpus_millis: int = Field(
        default=1000, ge=10, description="CPUs of a lease that names none, thousandths."
    )
    default_memory_bytes: int = Field(
        default=2 * 1024**3, ge=16 * 1024**2, description="Memory of a lease that names none, in bytes."
    )
    min_memory_bytes: int = Field(
        default=16 * 1024**2, ge=6 * 1024**2, description="The least memory a lease may ask, in bytes."
    )
    default_image: str = Field(default="base", description="Environment or image of a lease that names none.")
    min_idle_timeout_seconds: int = Field(
        default=60, ge=1, description="The shortest idle time a lease may ask, in seconds."
    )
    suspended_per_user: int = Field(
        default=50,
        ge=0,
        description="A user with so many suspended leases, whose files take disk, gets no new ones.",
    )
    max_retention_seconds: int = Field(
        default=30 * 86400,
        ge=60,
        description="A suspended lease's files may be kept for so long from now, if its owner extends that.",
    )
    workspaces_per_user: int = Field(
        default=20, ge=0, description="Workspaces that one user may have made, the projects' with them."
    )
    default_workspace_bytes: int = Field(
        default=50 * 1024**3,
        ge=0,
        description="Quota of a workspace that is made without one, bytes; 0: none.",
    )
    max_workspace_bytes: int = Field(
        default=1024**4, ge=16 * 1024**2, description="The largest quota of a workspace that is no admin's."
    )
    upload_bytes: int = Field(
        default=64 * 1024**3, ge=1, description="One upload of files into a lease may have so many bytes."
    )
    max_reservation_seconds: int = Field(
        default=7 * 86400, ge=60, description="The longest that devices may be reserved for, in seconds."
    )
    max_reservation_ahead_seconds: int = Field(
        default=30 * 86400, ge=60, description="A reservation may begin so far ahead at most, in seconds."
    )
