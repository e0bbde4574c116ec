"""The pages people see: Jinja2 and htmx, everything served from here."""

from __future__ import annotations

from web.mount import mount

__all__ = ["mount"]
