"""The pages people see: Jinja2 and htmx, everything served from here."""

from __future__ import annotations

from fastapi import FastAPI


def mount(app: FastAPI) -> None:
    """Add the pages to the api's application."""
