"""LEASING_IDLE_*: how much of a signal is activity."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class IdleSettings(BaseSettings):
    """Thresholds; at or above one, the signal is active."""

    model_config = SettingsConfigDict(env_prefix="LEASING_IDLE_")

    gpu_ratio: float = Field(
        default=0.02, gt=0, le=1, description="GPU utilisation, 0 to 1, of the busiest device."
    )
    cpu_cores: float = Field(default=0.05, gt=0, description="CPU in use, in cores.")
    network_bytes_per_second: float = Field(
        default=2048, gt=0, description="Network traffic, both ways together."
    )
