"""Events as a page, or followed as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse

from api.deps import Admin, Caller, Unit
from api.streams.fanout import Fanout
from leasing.database import Sessions
from leasing.schema.lease import EventOut, EventPage
from leasing.service import leases, views

router = APIRouter(tags=["events"])
HEARTBEAT_SECONDS = 15.0
BATCH = 200


@router.get("/leases/{ref}/events", summary="What happened to a lease", response_model=EventPage)
def lease_events(
    ref: str,
    request: Request,
    unit: Unit,
    caller: Caller,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str, Header(max_length=20)] = "",
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=views.MAX_PAGE)] = 100,
) -> Response | EventPage:
    """A page; or, for `Accept: text/event-stream`, a stream: it resumes after `Last-Event-ID`, ends with the lease."""
    lease = leases.find(unit, ref, principal=caller)
    if last_event_id.isascii() and last_event_id.isdigit():
        after = int(last_event_id)
    if "text/event-stream" in accept:
        state = request.app.state
        return StreamingResponse(
            _follow(state.sessions, state.fanout, lease.id, after),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    return views.event_page(unit, lease_id=lease.id, after_id=after, limit=limit)


@router.get("/events", summary="Everything that happened")
def all_events(
    unit: Unit,
    _: Admin,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=views.MAX_PAGE)] = 100,
) -> EventPage:
    return views.event_page(unit, lease_id=None, after_id=after, limit=limit)


async def _follow(sessions: Sessions, fanout: Fanout, lease_id: UUID, after: int) -> AsyncIterator[bytes]:
    async with fanout.follow(str(lease_id)) as woken:
        while not fanout.closed:
            woken.clear()
            found = await run_in_threadpool(_read, sessions, lease_id, after)
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
    with sessions() as session:
        return views.event_page(session, lease_id=lease_id, after_id=after, limit=BATCH).items
