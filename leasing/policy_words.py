"""Policies as people write and read them, in the command line and on the pages. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from leasing.errors import Invalid
from leasing.reclaim import NEVER
from leasing.units import format_duration, parse_duration

TIMES = {
    "window": "window_seconds", "longest": "longest_seconds", "grace": "grace_seconds",
    "protected": "protected_seconds", "retention": "retention_seconds",
}  # fmt: skip
"""Terms that are times, and their fields."""
_TERMS = {field: term for term, field in TIMES.items()} | {"thresholds": "threshold", "warnings": "warn"}
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOURS = "Write it like 'mon-fri 09:00-18:00 Europe/Berlin'."


class Written(TypedDict, total=False):
    """Terms as they were written; what is left out or None is not said."""

    action: str | None
    window: str | None
    learned: bool
    longest: str | None
    threshold: Sequence[str] | None
    grace: str | None
    warn: str | None
    hours: str | None
    protected: str | None
    retention: str | None


def terms(**said: Unpack[Written]) -> dict[str, Any]:
    """What was written, as the fields of a policy. Raises `Invalid`."""
    texts: Mapping[str, Any] = {**said}
    asked: dict[str, Any] = {
        field: _seconds(texts[term]) for term, field in TIMES.items() if texts.get(term) is not None
    }
    if (action := said.get("action")) is not None:
        asked["action"] = action
    if said.get("learned"):
        asked["learned"] = True
    if threshold := said.get("threshold"):
        asked["thresholds"] = dict(_threshold(one) for one in threshold)
    if (warn := said.get("warn")) is not None:
        asked["warnings"] = [parse_duration(one.strip()) for one in warn.split(",")] if warn != "none" else []
    if (hours := said.get("hours")) is not None:
        asked["hours"] = _hours(hours)
    return asked


def _seconds(text: str) -> int:
    return NEVER if text in ("never", "0s", "0") else parse_duration(text)


def _threshold(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise Invalid(f"{text[:40]!r} is no threshold.", hint="Write it like gpu=0.05") from None


def _hours(text: str) -> dict[str, Any]:
    words = text.split()
    if len(words) != 3 or "-" not in words[1]:
        raise Invalid(f"{text[:60]!r} are no working hours.", hint=HOURS)
    days: list[str] = []
    for part in words[0].lower().split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise Invalid(f"{part[:20]!r} are no days of the week: {', '.join(DAYS)}.", hint=HOURS)
        begin, end = DAYS.index(first), DAYS.index(last if dash else first)
        days += [DAYS[(begin + number) % 7] for number in range((end - begin) % 7 + 1)]
    opens, _, closes = words[1].partition("-")
    return {"days": [day for day in DAYS if day in days], "begin": opens, "end": closes, "zone": words[2]}


def written(policy: Mapping[str, Any]) -> dict[str, str]:
    """What a policy says itself, as `terms` takes it; thresholds stand side by side."""
    found = {
        "action": str(policy["action"]),
        "thresholds": " ".join(f"{name}={value:.15g}" for name, value in policy["thresholds"].items()),
        "warnings": ", ".join(_exact(step) for step in policy["warnings"]) or "none",
        "hours": working(policy["hours"]),
        "learned": "yes",
    } | {field: _exact(policy[field]) for field in TIMES.values() if policy[field] is not None}
    if policy["window_seconds"] == NEVER:
        found["window_seconds"] = "never"
    return {_TERMS.get(field, field): found[field] for field in policy["set"]}


def _exact(seconds: int) -> str:
    """A duration that reads back as the same."""
    text = format_duration(seconds)
    return text if seconds == 0 or parse_duration(text) == seconds else f"{seconds}s"


def for_whom(subject: str) -> str:
    """`project vision`, `all leases`."""
    kind, _, name = subject.partition("/")
    return f"{kind.removesuffix('s')} {name}" if name else "all leases"


def working(hours: Mapping[str, Any] | None) -> str:
    """As `terms` takes it; empty where there are none."""
    if hours is None:
        return ""
    return f"{','.join(hours['days'])} {hours['begin']}-{hours['end']} {hours['zone']}"
