"""Adding the pages to the api's application: same origin, same session."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.staticfiles import StaticFiles
from starlette.responses import RedirectResponse, Response

from api import problems
from leasing.errors import NotSignedIn
from web import (
    access,
    banner,
    calendar,
    extend,
    files,
    leases,
    machines,
    policies,
    signin,
    terminal,
    trying,
    usage,
    workspaces,
)
from web.guard import Guard

STATIC = Path(__file__).parent / "static"


def mount(app: FastAPI) -> None:
    """Pages at `/`; someone who is not signed in is shown where to."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for part in (signin, extend, banner, usage, files, trying):
        app.include_router(part.router, include_in_schema=False)
    for part in (terminal, access, leases, machines, calendar, workspaces, policies):
        app.include_router(part.router, include_in_schema=False, dependencies=[banner.LOOK])
    app.add_middleware(Guard)

    @app.exception_handler(NotSignedIn)
    def _to_signin(request: Request, error: NotSignedIn) -> Response:
        if request.url.path.startswith("/api/"):
            return problems.of(error)
        if "hx-request" in request.headers:  # an open page, whose session has ended elsewhere
            return Response(headers={"HX-Redirect": "/signin"})
        if "text/html" in request.headers.get("accept", ""):
            wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            more = f"?{urlencode({'next': wanted})}" if request.method == "GET" and wanted != "/" else ""
            return RedirectResponse(f"/signin{more}", 303)
        return problems.of(error)
