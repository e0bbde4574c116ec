"""What a lease's endpoint may be told besides its port: on the wire, in the row, and as the gateway acts on it."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from leasing.schema.base import Request, Wire
from leasing.units import format_duration, format_size


class EndpointRequest(Request):
    """Options to be set. One that is absent stays as it is; `off`, 0 and false take one back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"cache": "60s", "wake": True, "rate": 100}]})

    cache: str | None = Field(
        None, max_length=40, description="Equal calls may be answered from a cache for so long: `60s`; `off`."
    )
    wake: bool | None = Field(
        None, description="Suspended as idle, it is resumed by the next call to its endpoint, which waits."
    )
    inside: bool | None = Field(
        None,
        description="It is a way into the lease, as a notebook is: only who may enter may call. "
        "True from the start where the environment is one.",
    )
    rate: float | None = Field(
        None, ge=0, le=1_000_000, allow_inf_nan=False, description="Calls a second at most; 0: no limit."
    )
    burst: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="So many at once above that; 0: those of one second, at least one.",
    )
    max_body: str | None = Field(
        None, max_length=20, description="The largest body of a call: `1G`; `off`: no limit."
    )
    timeout: str | None = Field(
        None,
        max_length=40,
        description="A call that the application does not begin to answer within that is given up: `10m`; `off`.",
    )


class EndpointOptions(Wire):
    """Options as they count. Durations in seconds, sizes in bytes; None: no limit, or not at all."""

    model_config = ConfigDict(frozen=True)

    cache_seconds: int | None = None
    """Answers to equal calls may be kept for so long; None: never."""
    wake: bool = False
    """The next call resumes it once it was suspended as idle."""
    inside: bool = False
    """Only who may enter the lease may call."""
    rate: float | None = None
    """Calls a second."""
    burst: int | None = None
    """Calls at once above `rate`; None: those of one second, at least one."""
    body_max_bytes: int | None = None
    timeout_seconds: int | None = None
    """From the end of a call's body to the first byte of its answer's."""

    @property
    def said(self) -> str:
        """What was set, for people; empty for nothing."""
        burst = f", {self.burst} at once" if self.burst else ""
        said = (
            f"answers kept for {format_duration(self.cache_seconds)}" if self.cache_seconds else "",
            "woken by calls" if self.wake else "",
            "only for who may enter" if self.inside else "",
            f"{self.rate:g} calls a second{burst}" if self.rate else "",
            f"bodies up to {format_size(self.body_max_bytes)}" if self.body_max_bytes else "",
            f"an answer in {format_duration(self.timeout_seconds)}" if self.timeout_seconds else "",
        )
        return ", ".join(one for one in said if one)


PLAIN = EndpointOptions()
"""Of an endpoint that was told nothing."""
