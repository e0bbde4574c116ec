"""Answers as CSV (RFC 4180), safe to open in a spreadsheet.

A cell that begins like a formula is led in by an apostrophe, as OWASP advises against CSV injection: names are people's
own text, and a spreadsheet would carry out `=…` on the machine of whoever opens it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fastapi.responses import StreamingResponse

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
LINES = 1000
"""Written at once."""


def cell(value: Any) -> str:
    """Empty for what is not known. Numbers are written as such, text never as a formula."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    text = str(value)
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) or text.startswith(FORMULA) else text


def response(columns: Sequence[str], rows: Iterable[Any], name: str) -> StreamingResponse:
    """Rows by their attributes of these names, to be kept as the file `name`."""
    return StreamingResponse(
        lines(columns, rows),
        media_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Content-Type-Options": "nosniff",
        },
    )


def lines(columns: Sequence[str], rows: Iterable[Any]) -> Iterator[str]:
    """The text, some lines at a time."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for number, row in enumerate(rows, 1):
        writer.writerow([cell(getattr(row, column)) for column in columns])
        if number % LINES == 0:
            yield out.getvalue()
            out.seek(0)
            out.truncate()
    yield out.getvalue()
