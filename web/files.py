"""Files of a lease in the browser: looking around, up and down."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from api.deps import signed_in
from api.streams import files
from api.streams.room import Seated
from leasing.access import Action
from leasing.drivers.spec import WORKSPACE
from leasing.model import Lease
from leasing.service import leases
from leasing.service.principal import Principal
from web import banner
from web.render import page

router = APIRouter()


@router.get("/leases/{ref}/files")
async def show(ref: str, request: Request, seat: Seated, path: files.Path = WORKSPACE) -> Response:
    """A folder; a file is downloaded. htmx asks again when something was sent, for the table only."""
    lease, caller = await run_in_threadpool(_find, ref, request)
    found = await files.list_files(ref, request, seat, path)
    if not found.itself.folder:
        query = urlencode({"path": found.path})
        return RedirectResponse(f"/api/v1/leases/{lease.id}/files/content?{query}", 303)
    whole = PurePosixPath(found.path)
    return await run_in_threadpool(
        page,
        request,
        "_files.html" if "hx-request" in request.headers else "files.html",
        caller,
        lease=lease,
        found=found,
        crumbs=[*reversed(whole.parents), whole],
        below=lambda name: str(whole / name),
    )


def _find(ref: str, request: Request) -> tuple[Lease, Principal]:
    """In a unit of work of its own: the container may take its time, and nothing else is to wait for it."""
    with request.app.state.sessions.begin() as session:
        found = signed_in(request, session)
        caller = found.principal
        banner.look(request, session, caller, found.now)
        return leases.find(session, ref, principal=caller, action=Action.ENTER), caller
