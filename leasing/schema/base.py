"""What every wire model shares."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Request(BaseModel):
    """What a client sends: an unknown field is an error, never silently dropped."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class Wire(BaseModel):
    """What the platform answers: a client ignores fields that it does not know yet."""

    model_config = ConfigDict(extra="ignore", from_attributes=True)


class Problem(Wire):
    """An error, as `application/problem+json` (RFC 9457); `code` is stable, `detail` is for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str | None = None
    errors: list[dict[str, object]] | None = None
    """Of a malformed payload: where and what."""
