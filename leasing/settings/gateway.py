"""LEASING_GATEWAY_*: the endpoints' data plane."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class GatewaySettings(BaseSettings):
    """Patience and limits of the built-in gateway."""

    model_config = SettingsConfigDict(env_prefix="LEASING_GATEWAY_")

    plane: Literal["builtin", "haproxy"] = Field(
        default="builtin",
        description="What carries the bytes: our own code, with nothing to install; or HAProxy in front of it, which "
        "is several times as fast and speaks HTTP/2 and gRPC.",
    )
    proxy_threads: int = Field(default=0, ge=0, le=64, description="HAProxy's threads; 0: one a core.")
    connect_seconds: float = Field(
        default=3.0, gt=0, description="An application that does not take a connection by then is not there."
    )
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
    idle_seconds: float = Field(
        default=3600.0, gt=0, description="A stream on which nothing moves for so long is closed."
    )
    poll_seconds: float = Field(default=1.0, gt=0, description="Grants are read anew at least so often.")
    stale_seconds: float = Field(
        default=5.0,
        gt=0,
        le=10,  # a revocation does not wait for a gateway silent for 15 s
        description="Grants not confirmed for so long are not believed: every call is refused.",
    )
    flush_seconds: float = Field(default=2.0, gt=0, description="Traffic counts are written so often.")
    cache_url: str = Field(
        default="",
        pattern=r"^$|^(redis|rediss|unix)://",
        description="Redis server that keeps the answers of endpoints that were told to cache, for all gateways "
        "together: `redis://HOST:6379/0`, or `rediss://` over TLS; empty: each gateway's own memory.",
    )
    cache_bytes: int = Field(
        default=256 * 1024**2,
        ge=0,
        description="Memory for such answers; a Redis server has its own `maxmemory`.",
    )
    cache_entry_bytes: int = Field(default=4 * 1024**2, ge=0, description="A longer answer is not kept.")
    cache_body_bytes: int = Field(
        default=1024**2, ge=0, description="A call with a longer body is passed on without asking the cache."
    )
    wake_seconds: float = Field(
        default=30.0,
        gt=0,
        description="A call waits so long for the lease that it wakes; then it is told when to try again.",
    )
    wake_calls: int = Field(
        default=1000, ge=1, description="So many calls of one lease may wait for its waking at once."
    )
    cookie_hours: float = Field(
        default=12.0, gt=0, description="A browser's entry to one endpoint lasts so long."
    )
