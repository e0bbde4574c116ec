"""What stands around every answer: the headers that bind a browser, and a page where a person would get JSON."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.render import render

POLICY = (
    "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    # not "no-referrer": that would make the Origin of our own forms "null"
    "referrer-policy": "same-origin",
}


class Guard:
    """Plain ASGI, so that streams pass untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        as_page = _navigates(scope)
        held: list[Message] = []

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if as_page and headers.get("content-type", "").startswith("application/problem+json"):
                    held.append(message)
                    return
            elif held:
                held.append(message)
                if not message.get("more_body", False):
                    await _send_page(held, send)
                return
            await send(message)

        await self.app(scope, receive, guarded)


def _navigates(scope: Scope) -> bool:
    """A person follows a link or sends a form; not a program, nor htmx, nor a script's fetch."""
    headers = Headers(scope=scope)
    own = scope["path"].startswith("/api/") or "hx-request" in headers
    return not own and "text/html" in headers.get("accept", "")


async def _send_page(held: list[Message], send: Send) -> None:
    start, *parts = held
    problem: dict[str, Any] = json.loads(b"".join(part.get("body", b"") for part in parts))
    title = HTTPStatus(start["status"]).phrase if start["status"] == 404 and "hint" not in problem else None
    body = render(
        "problem.html", caller=None, path="", title=title or problem["detail"], hint=problem.get("hint", "")
    ).encode()
    headers = MutableHeaders(scope=start)
    headers["content-type"] = "text/html; charset=utf-8"
    headers["content-length"] = str(len(body))
    headers["cache-control"] = "no-store"
    await send(start)
    await send({"type": "http.response.body", "body": body})
