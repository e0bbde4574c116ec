"""LEASING_DEVICE_MEMORY_*: what happens to a lease that uses more of a shared device's memory than its part."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DeviceMemorySettings(BaseSettings):
    """A lease over its part and the tolerance is warned first, then stopped."""

    model_config = SettingsConfigDict(env_prefix="LEASING_DEVICE_MEMORY_")

    tolerance_ratio: float = Field(
        default=0.05, ge=0, le=1, description="It may use so much more than its part, 0 to 1,"
    )
    tolerance_bytes: int = Field(default=256 * 1024**2, ge=0, description="or this, where this is more.")
    warn_seconds: int = Field(default=15, ge=0, description="Over it for so long, it is warned.")
    stop_seconds: int = Field(
        default=60, ge=1, description="Over it for so long after the warning, it is stopped."
    )

    def limit(self, share_bytes: int) -> int:
        """What a lease whose part is `share_bytes` may use before it is over it."""
        return share_bytes + max(self.tolerance_bytes, int(share_bytes * self.tolerance_ratio))
