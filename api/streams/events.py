"""Events as a page, or followed as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse
from sqlalchemy.exc import SQLAlchemyError

from api.deps import Admin, Caller, Unit
from api.streams import access
from leasing.access import Action
from leasing.database import Sessions
from leasing.schema.lease import EventOut, EventPage
from leasing.service import event_views, leases
from leasing.states import LeaseState

router = APIRouter(tags=["events"])
HEARTBEAT_SECONDS = 15.0
BATCH = 200


@router.get(
    "/leases/{ref}/events",
    summary="What happened to a lease",
    response_model=EventPage,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "The lease has ended and everything was sent: do not come back."},
    },
)
def lease_events(
    ref: str,
    request: Request,
    unit: Unit,
    caller: Caller,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str, Header(pattern=r"^\d{0,18}$")] = "",
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=event_views.MAX_PAGE)] = 100,
) -> Response | EventPage:
    """A page; or, for `Accept: text/event-stream`, a stream: it resumes after `Last-Event-ID`, ends with the lease."""
    lease = leases.find(unit, ref, principal=caller, action=Action.SEE)
    after = int(last_event_id or after)
    if "text/event-stream" not in accept:
        return event_views.page(unit, lease_id=lease.id, after_id=after, limit=limit)
    over = lease.state == LeaseState.ENDED
    if over and not event_views.page(unit, lease_id=lease.id, after_id=after, limit=1).items:
        return Response(status_code=204)  # on which a browser's EventSource stops asking
    return StreamingResponse(
        _follow(request, lease.id, after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get("/events", summary="Everything that happened")
def all_events(
    unit: Unit,
    _: Admin,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=event_views.MAX_PAGE)] = 100,
) -> EventPage:
    return event_views.page(unit, lease_id=None, after_id=after, limit=limit)


async def _follow(request: Request, lease_id: UUID, after: int) -> AsyncIterator[bytes]:
    fanout = request.app.state.fanout
    async with fanout.follow(str(lease_id)) as woken:
        while not fanout.closed and await run_in_threadpool(
            access.still_allowed, request, lease_id, Action.SEE
        ):
            woken.clear()
            found = await run_in_threadpool(_read, request.app.state.sessions, lease_id, after)
            for event in found:
                after = event.id
                yield f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n".encode()
                if event.kind == "lease.ended":
                    return
            if len(found) == BATCH:
                continue
            try:
                await asyncio.wait_for(woken.wait(), HEARTBEAT_SECONDS)
            except TimeoutError:
                yield b": still here\n\n"


def _read(sessions: Sessions, lease_id: UUID, after: int) -> list[EventOut]:
    """What is new; nothing while the database is away or has no connection to spare, for it is asked again."""
    try:
        with sessions() as session:
            return event_views.page(session, lease_id=lease_id, after_id=after, limit=BATCH).items
    except SQLAlchemyError:
        return []
