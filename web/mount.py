"""Adding the pages to the api's application: same origin, same session."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.staticfiles import StaticFiles
from starlette.middleware.base import RequestResponseEndpoint
from starlette.responses import RedirectResponse, Response

from api import problems
from leasing.errors import NotSignedIn
from web import leases, machines, signin

POLICY = (
    "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
STATIC = Path(__file__).parent / "static"


def mount(app: FastAPI) -> None:
    """Pages at `/`; someone who is not signed in is shown where to."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for part in (signin, leases, machines):
        app.include_router(part.router, include_in_schema=False)

    @app.exception_handler(NotSignedIn)
    def _to_signin(request: Request, error: NotSignedIn) -> Response:
        if "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/"):
            return RedirectResponse("/signin", 303)
        return problems.of(error)

    @app.middleware("http")
    async def _guard(request: Request, go_on: RequestResponseEndpoint) -> Response:
        response = await go_on(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        # not "no-referrer": that would make the Origin of our own forms "null"
        response.headers.setdefault("Referrer-Policy", "same-origin")
        return response
