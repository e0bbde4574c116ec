"""LEASING_FIREWALL_*: what containers may reach besides the internet."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class FirewallSettings(BaseSettings):
    """Exceptions from "no host, no private network"."""

    model_config = SettingsConfigDict(env_prefix="LEASING_FIREWALL_")

    allow: str = Field(
        default="",
        description="Private addresses containers may reach, as ADDRESS/PREFIX or ADDRESS:PORT, comma-separated: a "
        "company's proxy or package mirror.",
    )
