"""How things are printed: tables that fit, times as people say them, JSON for programs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from leasing.units import format_duration

STYLES = {
    "running": "32", "ready": "32", "free": "32", "queued": "33", "placed": "33", "starting": "33", "stopping": "33",
    "leased": "36", "ended": "2", "failed": "31", "unreachable": "31", "lost": "31", "foreign": "31", "out": "31",
    "unknown": "33", "cleaning": "33", "quarantined": "31",
}  # fmt: skip
GAP = "  "
MINUTE = timedelta(minutes=1)


def as_json(value: Any) -> None:
    """What the api says, as it says it; a program sees fields that this version does not know yet, too."""
    print(json.dumps(value, indent=2), flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Aligned columns within the terminal; what has no room on the right is cut. `empty` teaches what to do."""
    if not rows:
        print(empty)
        return
    rows = [[plain(cell) for cell in row] for row in rows]
    sizes = [max(len(column), *(len(row[at]) for row in rows)) for at, column in enumerate(columns)]
    print(dim(_fit(columns, sizes)))
    for row in rows:
        print(_painted(_fit(row, sizes), row, sizes))


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """What there is to say of one thing, a line each; nothing is said of what is empty."""
    said = [(key, value) for key, value in pairs if value]
    size = max((len(key) for key, _ in said), default=0)
    for key, value in said:
        print(f"{GAP}{dim(key.ljust(size))}{GAP}{plain(value)}")


def revoked(everywhere: bool) -> str:
    """What is said once a token was made worthless."""
    return "Revoked." if everywhere else "Revoked; a gateway has not said so yet, and follows within seconds."


def moment(when: datetime | str | None, *, now: datetime | None = None) -> str:
    """`in 1h42m (18:00)` or `3m ago (12:57)`, in this machine's zone; text is as the api writes it."""
    if when is None:
        return "-"
    when, now = _when(when), now or datetime.now(UTC)
    seconds, clock = (when - now).total_seconds(), _clock(when, now)
    return (
        f"in {format_duration(seconds)} ({clock})"
        if seconds >= 0
        else f"{format_duration(-seconds)} ago ({clock})"
    )


def expected(one: Mapping[str, Any], *, now: datetime | None = None) -> str:
    """When what waits will start: `in 40m (15:10), by 16:00 at the latest`; nothing where nothing is known.

    To the minute: nobody can foretell seconds.
    """
    likely, latest = (
        _when(said) if (said := one.get(key)) else None for key in ("expected_start", "latest_start")
    )
    now = now or datetime.now(UTC)
    soon = ""
    if likely is not None:
        ahead = (likely - now) // MINUTE * MINUTE.total_seconds()
        soon = f"in {format_duration(ahead)} ({_clock(likely, now)})" if ahead > 0 else "at any moment"
    if latest is None or (likely is not None and latest - likely < MINUTE):
        return soon
    last = f"by {_clock(latest, now)} at the latest"
    return f"{soon}, {last}" if soon else last


def warnings(leases: Iterable[Mapping[str, Any]]) -> None:
    """What leases are warned of, each with the command that keeps it; nothing where nobody is."""
    for lease in leases:
        for notice in lease.get("notices") or ():
            said = f"{plain(notice['message'])} {moment(notice['deadline'])}: {notice['hint']}"
            keep = f", or lease keep {lease['name']} --while CMD" if notice["kind"] == "idle" else ""
            print(f"{_style('!', '33')} {said}{keep}")


def labels(found: Mapping[str, str]) -> str:
    """`disk=fast,zone=b`"""
    return ",".join(f"{key}={value}" for key, value in sorted(found.items()))


def plain(text: str) -> str:
    """On one line and without control characters: a command or an engine's message may hold any."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def dim(text: str) -> str:
    return _style(text, "2")


def bold(text: str) -> str:
    return _style(text, "1")


def state(word: str) -> str:
    return _style(word, STYLES[word]) if word in STYLES else word


def problem(message: str, hint: str | None, _: str = "") -> None:
    """What went wrong and the way out, on stderr."""
    print(f"{_style('Error:', '31', sys.stderr)} {message}", file=sys.stderr)
    if hint:
        print(f"{GAP}{hint}", file=sys.stderr)


def width() -> int:
    """Columns of the terminal; in a file a line is as long as it is."""
    return shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 10_000


def _when(said: datetime | str) -> datetime:
    return datetime.fromisoformat(said) if isinstance(said, str) else said


def _clock(when: datetime, now: datetime) -> str:
    """The time of day, with the day where that is not plain."""
    local = when.astimezone()
    return f"{local:%H:%M}" if abs((when - now).total_seconds()) < 20 * 3600 else f"{local:%a %d %b %H:%M}"


def _style(text: str, code: str, out: TextIO | None = None) -> str:
    coloured = (
        (out or sys.stdout).isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )
    return f"\033[{code}m{text}\033[0m" if coloured else text


def _fit(cells: Sequence[str], sizes: Sequence[int]) -> str:
    text = GAP.join(cell.ljust(size) for cell, size in zip(cells, sizes, strict=True)).rstrip()
    room = width()
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _painted(line: str, row: Sequence[str], sizes: Sequence[int]) -> str:
    """The first cell that is a state word stands out, where there was room for it."""
    start = 0
    for cell, size in zip(row, sizes, strict=True):
        if cell in STYLES and line[start : start + len(cell)] == cell:
            return f"{line[:start]}{state(cell)}{line[start + len(cell) :]}"
        start += size + len(GAP)
    return line
