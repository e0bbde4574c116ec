"""Templates and the words they share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from leasing import __version__
from leasing.reading import measured
from leasing.service.principal import Principal
from leasing.units import format_duration, format_size


def when(moment: datetime | None) -> str:
    """`in 1h42m` or `3m ago`; the exact time stands in the element's title."""
    if moment is None:
        return "–"
    seconds = (moment - datetime.now(UTC)).total_seconds()
    return f"in {format_duration(seconds)}" if seconds >= 0 else f"{format_duration(-seconds)} ago"


def exact(moment: datetime | None) -> str:
    """For an element's title."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else ""


def share(start: datetime | None, end: datetime | None) -> float:
    """How much of the time from start to end is over, 0 to 1."""
    if start is None or end is None or end <= start:
        return 0.0
    return min(1.0, max(0.0, (datetime.now(UTC) - start) / (end - start)))


def begun(text: str) -> str:
    """As a sentence begins."""
    return text[:1].upper() + text[1:]


def percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.0%}"


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {
    "when": when, "exact": exact, "size": format_size, "percent": percent, "duration": format_duration,
    "begun": begun,
}  # fmt: skip
TEMPLATES.globals |= {"version": __version__, "share": share, "measured": measured}


def render(template: str, **facts: Any) -> str:
    """A template's text. Every page needs `caller` (None: nobody is signed in) and `path`."""
    return TEMPLATES.get_template(template).render(**facts)


def page(
    request: Request, template: str, caller: Principal | None, status: int = 200, **facts: Any
) -> HTMLResponse:
    """A page, or the part of one that htmx asks for."""
    notices = getattr(request.state, "notices", [])
    text = render(template, caller=caller, path=request.url.path, notices=notices, **facts)
    return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})
