"""Warnings and where people want them, on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from leasing.schema.base import Request, Wire

Address = Annotated[str, StringConstraints(min_length=3, max_length=2000, pattern=r"^[!-~]+$")]


class NoticeOut(Wire):
    """A warning that stands: `message` will happen at `deadline` unless somebody does what `hint` says."""

    kind: str
    message: str
    deadline: datetime
    at: datetime
    """When it was given."""
    hint: str


class ContactIn(Request):
    """Where to be told: a mail address, an https address, or what Apprise calls a URL of a chat."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"address": "ada@example.org"}, {"address": "slack://T1/B1/xyz/%23gpus"}]
        }
    )

    address: Address = Field(description="Kept sealed, for it may hold a secret; shown without it.")


class ContactOut(Wire):
    """One channel of yours. `told_at` and `error` say how it went when something was last sent there."""

    channel: str
    shown: str
    created_at: datetime
    told_at: datetime | None
    error: str
    testing: bool = False
    """A message that tries it is on its way."""
    secret: str | None = None
    """Of a webhook, in the answer that makes it and nowhere else: the key of the signature on its calls."""


class ContactPage(Wire):
    items: list[ContactOut]
    channels: list[str]
    """Those that can be set here."""
