"""LEASING_NODE_*: the sampler on a machine with containers."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class NodeSettings(BaseSettings):
    """Where it reports, and where it is scraped."""

    model_config = SettingsConfigDict(env_prefix="LEASING_NODE_")

    name: str = Field(default="local", description="The node's name, as it joined.")
    api: str = Field(default="http://127.0.0.1:8080", description="Address of the api.")
    token_file: Path = Field(
        default=Path(".leasing/node.token"),
        description="File with the node's own token, made when it joined.",
    )
    api_certificate: Path | None = Field(
        default=None, description="Certificate (PEM) to expect of the api, where it is one of our own making."
    )
    listen: str = Field(default="127.0.0.1", description="Address the sampler's own metrics are served on.")
    port: int = Field(default=9811, ge=1, le=65535, description="Port of the sampler's own metrics.")
    metrics_token_file: Path | None = Field(
        default=None, description="File with the token that a scrape must bring; unset: none is asked."
    )
    interval_seconds: float = Field(default=2.0, ge=0.2, description="Pause between samples.")
    nvml_library: Path | None = Field(
        default=None,
        description="NVML library to load instead of the driver's own; for tests and rare installations.",
    )
