"""What the api reads at all."""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem
from leasing.errors import Invalid

MAX_BODY = 1024 * 1024
STREAMED = re.compile(r"/api/v1/leases/[^/]+/files")
"""Where a body is taken while it comes, and bounded by whoever takes it."""


class InputLimits:
    """Bounds a body by what really arrives, for a Content-Length may lie or be absent; refuses NUL in an address, which
    PostgreSQL cannot hold and no name has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": "NUL in the address"})
            else:
                answer = problem(422, Invalid.code, "The address contains a NUL character.")
                await answer(scope, receive, send)
            return
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > MAX_BODY:
                raise HTTPException(413, f"A request's body may have {MAX_BODY} bytes.")
            return message

        bounded = scope["type"] == "http" and not STREAMED.fullmatch(scope["path"])
        await self._app(scope, counted if bounded else receive, send)
