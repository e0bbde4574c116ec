"""LEASING_USAGE_*: how long what was counted is kept."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class UsageSettings(BaseSettings):
    """Days. Hours are sealed for good; what they were counted from can go once they are."""

    model_config = SettingsConfigDict(env_prefix="LEASING_USAGE_")

    keep_days: int = Field(default=730, ge=1, le=36_500, description="Days that sealed hours are kept.")
    spans_days: int = Field(
        default=30, ge=1, le=36_500, description="Days that the times they were counted from are kept."
    )
