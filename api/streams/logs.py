"""A lease's output, as it was or as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from api.openapi import refusals
from api.streams import access, place, threads
from api.streams.room import Seated
from leasing.access import Action
from leasing.drivers.streaming import LogStream
from leasing.errors import ContainerGone, LeasingError
from leasing.states import RESTING, LeaseState

router = APIRouter(tags=["leases"])
MAX_TAIL = 100_000


@router.get(
    "/leases/{ref}/logs",
    summary="A lease's output",
    response_class=PlainTextResponse,
    responses=refusals(409, 502),
)
def lease_logs(
    ref: str,
    request: Request,
    seat: Seated,
    follow: bool = False,
    tail: Annotated[int | None, Query(ge=0, le=MAX_TAIL)] = None,
) -> Response:
    """Both output streams as plain text; `follow=1` goes on until the lease stops. Of a lease that ended or
    was suspended, the last lines that were kept."""
    with request.app.state.sessions.begin() as session:
        lease, caller = access.find(session, request, ref, Action.SEE)
        rests = lease.state in RESTING and lease.suspended_at is not None
        found = None if rests or lease.state == LeaseState.ENDED else place.of(session, lease)
    if found is None:
        lines = lease.last_log.splitlines(keepends=True)
        return PlainTextResponse("".join(lines if tail is None else lines[max(len(lines) - tail, 0) :]))
    seat.take(caller)
    try:
        source = request.app.state.connect(found.driver, found.address).logs(
            found.container, follow=follow, tail=tail
        )
    except ContainerGone:
        return PlainTextResponse("")  # the lease is about to end, and its last lines are kept then
    return StreamingResponse(
        _stream(request, lease.id, source),
        media_type="text/plain; charset=utf-8",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(request: Request, lease_id: UUID, source: LogStream) -> AsyncIterator[bytes]:
    """A chunk is read when the last one has gone out, so the engine waits for a slow reader."""
    try:
        async with access.while_allowed(request, lease_id, Action.SEE, source.close):
            while (chunk := await threads.wait_for(request.app, lambda: next(source, None))) is not None:
                yield chunk
    except LeasingError as error:
        yield f"\n[leasing] the output ends here: {error}\n".encode()
    finally:
        source.close()
