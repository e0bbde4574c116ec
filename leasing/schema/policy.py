"""Policies of reclaim, on the wire. Times are in seconds."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from leasing.schema.base import Request, Wire
from leasing.states import ReclaimAction

Seconds = int | None


class HoursIn(Request):
    """Working hours: in them nothing is taken back as idle."""

    days: list[str] = Field(
        max_length=7, description="Of mon, tue, wed, thu, fri, sat, sun.", examples=[["mon", "tue"]]
    )
    begin: str = Field(max_length=8, description="HH:MM", examples=["09:00"])
    end: str = Field(max_length=8, description="HH:MM; before `begin`: on the next day.", examples=["18:00"])
    zone: str = Field(max_length=64, description="A time zone's name.", examples=["Europe/Berlin"])


class PolicyIn(Request):
    """All of a policy: what is left out is as the platform's own. Of project, environment and lease one at most;
    none: it is for all leases."""

    project: str | None = Field(None, max_length=80, description="For leases in its name.")
    environment: str | None = Field(None, max_length=300, description="For leases of it, as they ask for it.")
    lease: str | None = Field(None, max_length=80, description="For this one: its name or id.")
    action: ReclaimAction | None = Field(None, description="What is done with an idle lease.")
    window_seconds: Seconds = Field(None, description="Quiet for so long is idle; 0: never.")
    learned: bool = Field(
        False, description="The window is learned from how such leases were used, `window_seconds` at most."
    )
    longest_seconds: Seconds = Field(
        None, description="The longest that a lease may ask to be idle; then it cannot ask for never."
    )
    thresholds: dict[str, float] = Field(
        {},
        max_length=16,
        description="Signal: from where on it is activity, where that is not the platform's.",
    )
    grace_seconds: Seconds = Field(None, description="After each start, for so long, nothing is idle.")
    warnings: list[int] | None = Field(
        None, max_length=16, description="Seconds before, from the first warning to the last."
    )
    hours: HoursIn | None = None
    protected_seconds: Seconds = Field(
        None, description="After each start, for so long, it gives way to nobody."
    )
    retention_seconds: Seconds = Field(
        None, description="A suspended lease keeps its files for so long; 0: for ever."
    )


class HoursOut(Wire):
    days: list[str]
    begin: str
    end: str
    zone: str


class LearnedOut(Wire):
    """What was learned for one user's leases of one environment in one project."""

    user: str
    project: str
    environment: str
    window_seconds: int
    gaps: int
    learned_at: datetime


class RuleOut(Wire):
    """All that counts for a lease, what its policy leaves to the platform filled in."""

    name: str
    subject: str
    """`all`, `projects/NAME`, `environments/NAME`, `leases/NAME`."""
    said: str
    """In words."""
    action: ReclaimAction
    window_seconds: int
    """0: never."""
    learned: bool
    longest_seconds: int | None
    thresholds: dict[str, float]
    grace_seconds: int
    warnings: list[int]
    hours: HoursOut | None
    protected_seconds: int
    retention_seconds: int


class PolicyOut(RuleOut):
    """A policy as it counts."""

    set: list[str]
    """What it says itself; the rest is the platform's own."""
    windows: list[LearnedOut]
    """What was learned so far, if it is learned."""
    updated_at: datetime | None
    """None: no admin made it, it is the platform's own."""


class PolicyPage(Wire):
    items: list[PolicyOut]


class LeasePolicyOut(Wire):
    """The policy that counts for a lease, with what the lease asked for itself over it."""

    name: str
    subject: str
    """Why it counts: whom it is for."""
    said: str
    """In words: `policy vision: suspended after 1h idle, warned 15m and 5m before`."""
    action: ReclaimAction
    window_seconds: int
    """0: never taken back as idle."""
    warnings: list[int]
