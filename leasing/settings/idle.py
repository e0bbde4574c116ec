"""LEASING_IDLE_*: how much of a signal is activity, and how long its record is kept."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class IdleSettings(BaseSettings):
    """Thresholds; at or above one, the signal is active."""

    model_config = SettingsConfigDict(env_prefix="LEASING_IDLE_")

    gpu_ratio: float = Field(
        default=0.02, gt=0, le=1, description="GPU utilisation, 0 to 1, of the busiest device."
    )
    gpu_memory_bytes: float = Field(
        default=16 * 1024**2, gt=0, description="Change of the device memory in use between two samples."
    )
    cpu_cores: float = Field(default=0.05, gt=0, description="CPU in use, in cores.")
    disk_bytes_per_second: float = Field(
        default=64 * 1024, gt=0, description="Disk traffic, both ways together."
    )
    network_bytes_per_second: float = Field(
        default=2048, gt=0, description="Network traffic, both ways together."
    )

    record_days: int = Field(
        default=30,
        ge=1,
        description="What each lease did is kept so long, by the minute, to try policies on.",
    )

    def thresholds(self) -> Mapping[str, float]:
        """Signal -> from where on it is activity. What somebody does is activity from the first time on."""
        return {
            "gpu": self.gpu_ratio,
            "gpu_memory": self.gpu_memory_bytes,
            "cpu": self.cpu_cores,
            "disk": self.disk_bytes_per_second,
            "network": self.network_bytes_per_second,
            "endpoint": 1,
            "terminal": 1,
            "kernel": 1,
            "keep": 1,
        }
