"""A workspace's files, as a tar that flows from its engine to its owner: nothing of it is kept here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

import anyio
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import SQLAlchemyError

from api.deps import signed_in
from api.openapi import refusals
from api.routers.workspaces import Of
from api.streams import access, threads
from api.streams.room import Seated
from leasing.drivers.streaming import LogStream
from leasing.errors import LeasingError, NotAllowed
from leasing.service import exports
from leasing.service.exports import Export

router = APIRouter(tags=["workspaces"])


@router.get(
    "/workspaces/{ref}/export",
    summary="All that is in a workspace, as a tar",
    response_class=StreamingResponse,
    responses=refusals(409)
    | {200: {"content": {"application/x-tar": {}}, "description": "Its files, below `workspace/`."}},
)
def export_workspace(ref: str, request: Request, seat: Seated, project: Of = None) -> StreamingResponse:
    """For who made it, owners of its project and admins; whether leases use it or not. What is written meanwhile may
    be in it or not. If it breaks off, the answer ends without the tar's own end, and without the last chunk."""
    with request.app.state.sessions.begin() as session:
        caller = signed_in(request, session).principal
        seat.take(caller.user_id)
        export = exports.begin(session, ref, project, principal=caller)
    try:
        source = request.app.state.connect(export.driver, export.address).archive(
            export.volume, name=export.container, installation=export.installation
        )
    except BaseException:
        _end(request, export)
        raise
    return StreamingResponse(
        _stream(request, export, source),
        media_type="application/x-tar",
        headers={
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            "Content-Disposition": f'attachment; filename="{export.filename}"',
        },
    )


async def _stream(request: Request, export: Export, source: LogStream) -> AsyncIterator[bytes]:
    """A piece is read when the last one has gone out, so the engine waits for a slow reader."""
    still = partial(_still, request, export)
    watch = asyncio.create_task(
        access.watch(request.app, export.workspace_id, still, source.close, exports.BEAT_SECONDS)
    )
    try:
        while (chunk := await threads.wait_for(request.app, partial(next, source, None))) is not None:
            yield chunk
        if watch.done():  # it was cut, and must not look whole
            raise NotAllowed("The export was broken off.")
    finally:
        watch.cancel()
        with anyio.CancelScope(shield=True):
            await threads.wait_for(request.app, source.close)
            await run_in_threadpool(_end, request, export)


def _still(request: Request, export: Export) -> bool:
    """Hold the claim; False once the caller may go on no more."""
    return access.holds(
        request.app.state.sessions,
        lambda session: exports.still(session, export, principal=signed_in(request, session).principal),
    )


def _end(request: Request, export: Export) -> None:
    with suppress(SQLAlchemyError, LeasingError), request.app.state.sessions.begin() as session:
        exports.end(session, export)
