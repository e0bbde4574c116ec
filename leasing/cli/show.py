"""How things are printed: tables that fit, times as people say them, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from leasing.units import format_duration

STYLES = {
    "running": "32", "ready": "32", "free": "32", "queued": "33", "placed": "33", "starting": "33", "stopping": "33",
    "leased": "36", "ended": "2", "failed": "31", "unreachable": "31", "foreign": "31", "out": "31", "unknown": "33",
}  # fmt: skip


def as_json(value: Any) -> None:
    """The wire model itself, so that a program sees what the API says."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    elif isinstance(value, list):
        value = [one.model_dump(mode="json") if isinstance(one, BaseModel) else one for one in value]
    print(json.dumps(value, indent=2))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Aligned columns within the terminal; the last one is cut when there is no room. `empty` teaches what to do."""
    if not rows:
        print(empty)
        return
    width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 10_000
    sizes = [max(len(column), *(len(row[at]) for row in rows)) for at, column in enumerate(columns)]
    print(dim(_line(columns, sizes, width)))
    for row in rows:
        print(_coloured(_line(row, sizes, width), row))


def moment(when: datetime | None, *, now: datetime | None = None) -> str:
    """`in 1h42m (18:00)` or `3m ago (12:57)`, in this machine's zone."""
    if when is None:
        return "-"
    seconds = (when - (now or datetime.now(UTC))).total_seconds()
    local = when.astimezone()
    clock = f"{local:%H:%M}" if abs(seconds) < 20 * 3600 else f"{local:%a %d %b %H:%M}"
    return (
        f"in {format_duration(seconds)} ({clock})"
        if seconds >= 0
        else f"{format_duration(-seconds)} ago ({clock})"
    )


def dim(text: str) -> str:
    return _style(text, "2")


def bold(text: str) -> str:
    return _style(text, "1")


def state(word: str) -> str:
    return _style(word, STYLES[word]) if word in STYLES else word


def problem(message: str, hint: str | None) -> None:
    """What went wrong and the way out, on stderr."""
    red = "\033[31m" if sys.stderr.isatty() else ""
    end = "\033[0m" if sys.stderr.isatty() else ""
    print(f"{red}Error:{end} {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)


def _style(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() else text


def _line(cells: Sequence[str], sizes: Sequence[int], width: int) -> str:
    text = "  ".join(cell.ljust(size) for cell, size in zip(cells, sizes, strict=True)).rstrip()
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _coloured(line: str, row: Sequence[str]) -> str:
    """The one cell that is a state word stands out."""
    for cell in row:
        if cell in STYLES:
            before, _, after = line.partition(f" {cell}")
            return f"{before} {state(cell)}{after}" if before != line else line
    return line
