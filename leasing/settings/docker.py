"""LEASING_DOCKER_*: how containers are made."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DockerSettings(BaseSettings):
    """What every lease's container gets, whatever its request says."""

    model_config = SettingsConfigDict(env_prefix="LEASING_DOCKER_")

    address: str = Field(
        default="", description="Engine of this machine's node; empty: DOCKER_HOST, or the usual socket."
    )
    network_pool: str = Field(
        default="10.213.0.0/16", description="Private range that leases' networks are cut out of, a /28 each."
    )
    pids_limit: int = Field(default=4096, ge=16, description="Processes and threads a lease may have.")
    shm_bytes: int = Field(
        default=64 * 1024**2, ge=0, description="Shared memory of a lease that names none, bytes."
    )
    log_max_megabytes: int = Field(
        default=10, ge=1, description="A container's log file is rotated at this size."
    )
    log_files: int = Field(default=3, ge=1, description="Rotated log files kept for a container.")
    timeout_seconds: int = Field(
        default=120, gt=0, description="An engine silent for so long does not answer."
    )
    http_proxy: str | None = Field(default=None, description="Proxy set in every container, for http.")
    https_proxy: str | None = Field(default=None, description="Proxy set in every container, for https.")
    no_proxy: str | None = Field(default=None, description="Hosts that containers reach without the proxy.")
    ca_bundle: Path | None = Field(
        default=None,
        description="Certificates (PEM) written into every container and named to the usual tools.",
    )
