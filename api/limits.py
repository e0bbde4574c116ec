"""What the api reads at most, and the characters it does not take."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem

MAX_BODY = 1024 * 1024


class TooLarge(Exception):
    """The body went on past the limit."""


class BodyLimit:
    """Counts what really arrives: a Content-Length may lie or be absent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        got = 0
        answered = False

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > MAX_BODY:
                raise TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except TooLarge:
            if answered:
                raise
            response = problem(413, "too_large", f"A request's body may have {MAX_BODY} bytes.")
            await response(scope, receive, send)
