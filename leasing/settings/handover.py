"""LEASING_HANDOVER_*: when a device is clean after a lease."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class HandoverSettings(BaseSettings):
    """What is allowed, and how long it may take."""

    model_config = SettingsConfigDict(env_prefix="LEASING_HANDOVER_")

    tolerance_bytes: int = Field(
        default=256 * 1024**2,
        ge=0,
        description="A device is empty when it uses no more memory than this above the least it was seen to use.",
    )
    patience_seconds: int = Field(
        default=60,
        ge=1,
        description="A device that is not clean so long after a lease is quarantined.",
    )
