"""What a policy may say: checked and put into the form of its row. Every refusal names the limit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import time
from typing import Any
from zoneinfo import ZoneInfo

from leasing.errors import Invalid
from leasing.reclaim import ALWAYS, NEVER, Hours, Rule
from leasing.schema.policy import HoursIn, HoursOut, PolicyIn, RuleOut
from leasing.settings.idle import IdleSettings
from leasing.settings.limits import LimitSettings
from leasing.states import ReclaimAction
from leasing.units import format_duration

DAY = 86_400
LONGEST = 366 * DAY
"""No time of a policy is longer."""
MOST_WARNINGS = 5
FIELDS = (
    "action", "window_seconds", "learned", "longest_seconds", "thresholds", "grace_seconds", "warnings", "hours",
    "protected_seconds", "retention_seconds",
)  # fmt: skip
"""The columns in which a policy says something."""
TIMES = ("window_seconds", "longest_seconds", "grace_seconds", "protected_seconds", "retention_seconds")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SIGNALS = tuple(signal for signal in IdleSettings.model_construct().thresholds() if signal != "keep")
"""Those that have a threshold."""
SHARES = ("gpu",)
"""Signals that are between 0 and 1."""


def columns(ask: PolicyIn, limits: LimitSettings) -> dict[str, Any]:
    """The columns of the policy that is asked for, whom it is for left out. Raises `Invalid`."""
    window = _window(ask, limits)
    return {
        "action": ask.action,
        "window_seconds": window,
        "learned": ask.learned,
        "longest_seconds": _longest(ask, window),
        "thresholds": _thresholds(ask.thresholds),
        "grace_seconds": _within("grace", ask.grace_seconds, 0),
        "warnings": _warnings(ask.warnings),
        "hours": _hours(ask.hours) if ask.hours is not None else None,
        "protected_seconds": _within("protected time", ask.protected_seconds, 0),
        "retention_seconds": _within("retention", ask.retention_seconds, 0),
    }


def rule(name: str, subject: str, said: Mapping[str, Any]) -> Rule:
    """What a policy's columns say, the platform's values filled in."""
    warnings, hours = said["warnings"], said["hours"]
    found = {
        "action": ReclaimAction(said["action"]) if said["action"] else None,
        "warnings": tuple(sorted(warnings, reverse=True)) if warnings is not None else None,
        "hours": _read_hours(hours) if hours is not None else None,
    } | {field: said[field] for field in TIMES}
    return replace(
        Rule(policy=name, subject=subject, learned=said["learned"], thresholds=said["thresholds"]),
        **{field: value for field, value in found.items() if value is not None},
    )


def rule_out(rule: Rule) -> RuleOut:
    """As it goes over the wire."""
    return RuleOut.model_validate(
        {field: getattr(rule, field) for field in FIELDS}
        | {"name": rule.policy, "subject": rule.subject, "said": str(rule), "hours": _hours_out(rule.hours)}
    )


def rule_in(said: RuleOut) -> Rule:
    """Back from the wire. Raises `Invalid` for a time zone that is not known here."""
    columns = {field: getattr(said, field) for field in FIELDS}
    if said.hours is not None:
        columns["hours"] = _hours(HoursIn.model_validate(said.hours.model_dump()))
    return rule(said.name, said.subject, columns)


def _hours_out(hours: Hours | None) -> HoursOut | None:
    """As people write them."""
    if hours is None:
        return None
    return HoursOut(
        days=[DAYS[day] for day in sorted(hours.days)],
        begin=f"{hours.begin:%H:%M}",
        end=f"{hours.end:%H:%M}",
        zone=str(hours.zone),
    )


def _within(what: str, seconds: int | None, least: int) -> int | None:
    if seconds is None:
        return None
    if not least <= seconds <= LONGEST:
        raise Invalid(
            f"{seconds} seconds of {what} are out of range: {format_duration(least)} to {format_duration(LONGEST)}.",
            hint="Write it like 30m, 8h or 2d.",
        )
    return seconds


def _window(ask: PolicyIn, limits: LimitSettings) -> int | None:
    if ask.window_seconds != NEVER:
        return _within("window", ask.window_seconds, limits.min_idle_timeout_seconds)
    if ask.learned:
        raise Invalid("A window cannot be never and learned.", hint="Give the longest it may be: --window 2h")
    return NEVER


def _longest(ask: PolicyIn, window: int | None) -> int | None:
    if ask.longest_seconds is None:
        return None
    if window == NEVER:
        raise Invalid(
            "A policy of never sets no longest idle time.", hint="Leave one of them out, or give a window: 8h"
        )
    usual = Rule().window_seconds if window is None else window
    if ask.longest_seconds < usual:
        raise Invalid(
            f"The longest idle time that leases may ask for, {format_duration(max(0, ask.longest_seconds))}, is "
            f"shorter than the window, {format_duration(usual)}.",
            hint="Give a shorter window, or a longer longest: --window 30m --longest 8h",
        )
    return _within("longest idle time", ask.longest_seconds, 1)


def _thresholds(said: Mapping[str, float]) -> dict[str, float]:
    for name, value in said.items():
        if name not in SIGNALS:
            raise Invalid(
                f"{name[:40]!r} is no signal with a threshold.", hint=f"Those are: {', '.join(SIGNALS)}."
            )
        most = 1.0 if name in SHARES else 1e15
        if not math.isfinite(value) or not 0 < value <= most:
            raise Invalid(
                f"{value:g} is no threshold for {name}: it is above 0 and {most:g} at most.",
                hint="For example: --threshold gpu=0.05 --threshold cpu=0.2",
            )
    return dict(sorted(said.items()))


def _warnings(said: Sequence[int] | None) -> list[int] | None:
    if said is None:
        return None
    example = "For example: --warn 15m,5m, or --warn none"
    if len(said) > MOST_WARNINGS:
        raise Invalid(f"{len(said)} warnings are too many: {MOST_WARNINGS} at most.", hint=example)
    for step in said:
        if not 0 < step < DAY:
            raise Invalid(f"A warning {step} seconds before is none: above 0, under a day.", hint=example)
    if any(later >= earlier for earlier, later in itertools.pairwise(said)):
        raise Invalid("Warnings come from the first, the longest before, to the last.", hint=example)
    return list(said)


def _hours(said: HoursIn) -> dict[str, Any]:
    example = "For example: --hours 'mon-fri 09:00-18:00 Europe/Berlin'"
    if not said.days or (unknown := [day for day in said.days if day not in DAYS]):
        wrong = repr(unknown[0][:20]) if said.days else "None"
        raise Invalid(f"{wrong} is no day of the week: {', '.join(DAYS)}.", hint=example)
    begin, end = _clock(said.begin, example), _clock(said.end, example)
    if begin == end:
        raise Invalid("Working hours begin and end at the same time.", hint=example)
    return {
        "days": sorted({DAYS.index(day) for day in said.days}),
        "from": f"{begin:%H:%M}",
        "to": f"{end:%H:%M}",
        "zone": _zone(said.zone, example),
    }


def _clock(text: str, example: str) -> time:
    try:
        moment = time.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is not None or len(text) != len("09:00"):
        raise Invalid(f"{text!r} is no time of the day.", hint=example)
    return moment


def _zone(name: str, example: str) -> str:
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError):  # unknown; no name at all; a folder of zones
        raise Invalid(f"{name!r} is no time zone that this machine knows.", hint=example) from None


def _read_hours(said: Mapping[str, Any]) -> Hours:
    try:
        zone = ZoneInfo(said["zone"])
    except (KeyError, ValueError, OSError):  # a machine with fewer zones than the one on which it was set
        return ALWAYS
    return Hours(
        days=frozenset(said["days"]),
        begin=time.fromisoformat(said["from"]),
        end=time.fromisoformat(said["to"]),
        zone=zone,
    )
