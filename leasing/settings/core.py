"""LEASING_*: where the platform keeps its state and where it listens."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class CoreSettings(BaseSettings):
    """What every part of the platform needs to know."""

    model_config = SettingsConfigDict(env_prefix="LEASING_")

    state_dir: Path = Field(
        default=Path(".leasing"),
        description="Folder for everything kept on this machine: database, keys, certificate, logs.",
    )
    database_url: str | None = Field(
        default=None,
        description="PostgreSQL 15 or newer, as postgresql://user:password@host/name. Unset: one of our own is run.",
        repr=False,
    )
    listen: str = Field(
        default="127.0.0.1",
        description="Address the api, the pages and the gateway listen on. Anything but loopback brings TLS.",
    )
    port: int = Field(default=8080, ge=1, le=65535, description="Port of the api and the web pages.")
    gateway_port: int = Field(
        default=8081, ge=1, le=65535, description="Port of the endpoints: an origin of its own."
    )
    gateway_domain: str | None = Field(
        default=None,
        description="Endpoints are at `<lease>.<this domain>`, each its own origin; unset: `/l/<lease>/`, all on one.",
    )
    public_host: str | None = Field(
        default=None, description="Host name people reach this machine by; unset: the listen address."
    )
    tls_certificate: Path | None = Field(
        default=None, description="Certificate (PEM). Unset and not on loopback: one is made at first start."
    )
    tls_key: Path | None = Field(default=None, description="Private key (PEM) of the certificate.")
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @property
    def loopback(self) -> bool:
        return self.listen in ("127.0.0.1", "::1", "localhost")

    @property
    def tls(self) -> bool:
        return self.tls_certificate is not None or not self.loopback

    @property
    def host(self) -> str:
        """The host that people's addresses name."""
        return self.public_host or (self.listen if self.listen not in ("0.0.0.0", "::") else "127.0.0.1")  # noqa: S104 - compared, not bound

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def url(self) -> str:
        """Where the api and the pages answer."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def gateway_url(self) -> str:
        """Where the endpoints answer."""
        return f"{self.scheme}://{self.host}:{self.gateway_port}"

    def endpoint_url(self, name: str) -> str:
        """Where the endpoint of the lease of that name answers."""
        if self.gateway_domain is not None:
            return f"{self.scheme}://{name}.{self.gateway_domain}:{self.gateway_port}/"
        return f"{self.gateway_url}/l/{name}/"

    def secret_key_file(self) -> Path:
        return self.state_dir / "secret.key"

    def metrics_token_file(self) -> Path:
        return self.state_dir / "metrics.token"
