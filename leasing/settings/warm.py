"""LEASING_WARM_*: what is kept ready on nodes before anybody asks."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class WarmSettings(BaseSettings):
    """Sandboxes serve every start; warm containers those that an admin's pools, or the forecast, name."""

    model_config = SettingsConfigDict(env_prefix="LEASING_WARM_")

    sandboxes: int = Field(
        default=4,
        ge=0,
        le=256,
        description="Network sandboxes kept ready on a node; 0 makes every start make its own network.",
    )
    sandboxes_most: int = Field(
        default=32, ge=0, le=256, description="So many at most, however many starts there were lately."
    )
    demand_seconds: int = Field(
        default=600,
        ge=10,
        description="A node keeps as many sandboxes ready as it had starts in a time so long.",
    )
    max_age_hours: float = Field(
        default=24.0, gt=0, description="A warm container that waited so long gives way to a fresh one."
    )
    forecast: bool = Field(
        default=False,
        description="Keep containers warm of environments that will probably be asked for, without an admin's word.",
    )
    forecast_most: int = Field(
        default=4, ge=1, le=64, description="So many on a node at most that only the forecast wants."
    )
