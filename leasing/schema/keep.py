"""The wire of keeping a lease."""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict, Field, model_validator

from leasing.schema.base import Request, Wire


class KeepRequest(Request):
    """Keep a running lease although it looks idle. With both, it is kept while the command succeeds, and no longer
    than that time."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"command": "pgrep train"}, {"ttl": "3h"}]})

    command: str | None = Field(
        None,
        max_length=1000,
        pattern=r"^[^\x00]*$",
        description="Run inside the lease about twice a minute, for ten seconds at most; while its exit code is 0 the "
        "lease is kept.",
    )
    ttl: str | None = Field(None, max_length=40, description="How long: `3h`.")

    @model_validator(mode="after")
    def _something(self) -> KeepRequest:
        if self.command is None and self.ttl is None:
            raise ValueError("give command, ttl, or both")
        return self


class KeepOut(Wire):
    """How a lease is kept."""

    command: str | None
    until: datetime | None
    asked_by: str
    created_at: datetime
    checked_at: datetime | None
    """When the command was last asked; None before the first time, and for a keep without one."""
    exit_code: int | None
    message: str
    """Why it is not known whether the command succeeds; empty while it is."""
