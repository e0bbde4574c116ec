"""Users, tokens and signing in, on the wire."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import ConfigDict, Field

from leasing.schema.base import Request, Wire
from leasing.schema.project import MyProjectOut


class UserOut(Wire):
    id: UUID
    name: str
    role: str
    created_at: datetime
    disabled_at: datetime | None


class UserPage(Wire):
    items: list[UserOut]


class UserIn(Request):
    name: str = Field(max_length=40)
    role: str = Field("developer", pattern="^(admin|developer)$")


class UserPatch(Request):
    """Only what is given changes."""

    role: str | None = Field(None, pattern="^(admin|developer)$")
    disabled: bool | None = None


class SigninLinkOut(Wire):
    """A one-time link: opens the pages in a browser, or goes to `lease login`."""

    url: str
    expires_at: datetime


class TokenIn(Request):
    label: str = Field("cli", max_length=80)
    ttl: str | None = Field(None, max_length=40, description="`30d`; absent: until revoked.")
    user: str | None = Field(None, max_length=40, description="Admins may make one for another user.")


class LeaseTokenIn(Request):
    """A token that opens one lease's endpoint and nothing else, to hand to another application."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"label": "billing service", "ttl": "30d"}]})

    label: str = Field("endpoint", min_length=1, max_length=80, description="What it is for.")
    ttl: str | None = Field(
        None, max_length=40, description="How long it is good: `30d`, which is also what is meant if absent."
    )


class TokenOut(Wire):
    """`secret` is shown once, in the answer to its creation."""

    id: UUID
    user: str
    label: str
    kind: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    secret: str | None = None


class TokenPage(Wire):
    items: list[TokenOut]


class SigninIn(Request):
    """Exchange a one-time link's secret for a token."""

    secret: str = Field(max_length=200, repr=False)
    label: str = Field("cli", max_length=80)


class MeOut(Wire):
    name: str
    role: str
    version: str
    gateway_url: str
    projects: list[MyProjectOut] = Field(default_factory=list)
