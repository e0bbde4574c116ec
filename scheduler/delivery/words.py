"""What is said in a warning that leaves the platform."""

from __future__ import annotations

from datetime import datetime

from leasing.service import notices
from leasing.states import NoticeKind
from leasing.units import format_duration

TITLES = {
    NoticeKind.IDLE: "Lease {} is idle",
    NoticeKind.EXPIRY: "Lease {} is running out of time",
    NoticeKind.RETENTION: "The kept files of lease {} will go",
    NoticeKind.DEVICE: "Lease {} has lost a device",
}


def title(kind: NoticeKind, name: str) -> str:
    """A mail's subject."""
    return TITLES[kind].format(name)


def sentence(message: str, deadline: datetime, *, announced: bool, now: datetime) -> str:
    """`train is idle and is suspended at 2026-11-21 18:05 UTC (in 12m).`; what has happened already has no when."""
    if not announced:
        return f"{message}."
    left = (deadline - now).total_seconds()
    soon = f" (in {format_duration(left)})" if left > 0 else ""
    return f"{message} {notices.said(deadline)}{soon}."


def body(said: str, *, hint: str, link: str | None, page: str) -> str:
    """A mail's or a chat's text."""
    click = f"\nOr with one click, without signing in: {link}" if link else ""
    return f"{said}\n\nWhat helps: {hint}{click}\n\nThe lease: {page}\n"


def wall(said: str, hint: str) -> str:
    """For open terminals: on lines of its own, and nothing that a terminal would obey."""
    text = "".join(sign if sign.isprintable() else " " for sign in f"{said} What helps: {hint}")
    return f"\n*** {text} ***\n"
