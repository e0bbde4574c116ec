"""What every wire model shares."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator


class Request(BaseModel):
    """What a client sends: an unknown field is an error, never silently dropped."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)

    @field_validator("*")
    @classmethod
    def _no_nul(cls, value: Any) -> Any:
        """No text that people write has one, and PostgreSQL could not hold it."""
        texts = value if isinstance(value, list) else value.values() if isinstance(value, dict) else (value,)
        if any(isinstance(text, str) and "\0" in text for text in texts):
            raise ValueError("contains a NUL character")
        return value


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
