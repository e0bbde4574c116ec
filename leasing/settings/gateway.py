"""LEASING_GATEWAY_*: the endpoints' data plane."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class GatewaySettings(BaseSettings):
    """Patience and limits of the built-in gateway."""

    model_config = SettingsConfigDict(env_prefix="LEASING_GATEWAY_")

    connect_seconds: float = Field(
        default=3.0, gt=0, description="An application that does not take a connection by then is not there."
    )
    idle_seconds: float = Field(
        default=3600.0, gt=0, description="A stream on which nothing moves for so long is closed."
    )
    poll_seconds: float = Field(default=1.0, gt=0, description="Grants are read anew at least so often.")
    stale_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Grants not confirmed for so long are not believed: every call is refused.",
    header_seconds: float = Field(
        default=10.0, gt=0, description="A request's head must be there so long after its first byte."
    )
    body_seconds: float = Field(
        default=30.0, gt=0, description="An upload of which nothing comes for so long is given up."
    )
    keep_seconds: float = Field(
        default=75.0, gt=0, description="A caller's connection may wait so long for its next request."
    )
    connections: int = Field(default=16_384, ge=1, description="Callers' connections at once, in all.")
    calls_per_lease: int = Field(
        default=4_096, ge=1, description="Calls and WebSockets of one lease that may be under way at once."
    )
    )
    flush_seconds: float = Field(default=2.0, gt=0, description="Traffic counts are written so often.")
    cookie_hours: float = Field(
        default=12.0, gt=0, description="A browser's entry to one endpoint lasts so long."
    )
