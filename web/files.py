"""Files of a lease in the browser: looking around, up and down."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from api.deps import Caller, Unit
from api.streams import files
from leasing.access import Action
from leasing.drivers.spec import WORKSPACE
from leasing.model import Lease
from leasing.service import leases
from web.render import page

router = APIRouter()


@router.get("/leases/{ref}/files")
async def show(
    ref: str, request: Request, unit: Unit, caller: Caller, path: files.Path = WORKSPACE
) -> Response:
    """A folder; a file is downloaded. htmx asks again when something was sent, for the table only."""
    lease = await run_in_threadpool(_find, ref, unit, caller)
    found = await files.list_files(ref, request, path)
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


def _find(ref: str, unit: Unit, caller: Caller) -> Lease:
    lease = leases.find(unit, ref, principal=caller, action=Action.ENTER)
    unit.commit()  # the container may take its time, and nothing is to wait for it with a connection
    return lease
