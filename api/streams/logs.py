"""A lease's output, as it was or as it comes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from api.deps import Caller, Unit
from api.streams import place
from api.streams.place import Place
from leasing.drivers.protocol import Streams
from leasing.errors import LeasingError
from leasing.service import leases
from leasing.states import LeaseState

router = APIRouter(tags=["logs"])
MAX_TAIL = 100_000
AHEAD = 64
"""Chunks read ahead of a slow reader; then the engine waits."""


@router.get("/leases/{ref}/logs", summary="A lease's output", response_class=PlainTextResponse)
def lease_logs(
    ref: str,
    request: Request,
    unit: Unit,
    caller: Caller,
    follow: bool = False,
    tail: Annotated[int | None, Query(ge=0, le=MAX_TAIL)] = None,
) -> Response:
    """Of an ended lease, the last lines that were kept."""
    lease = leases.find(unit, ref, principal=caller)
    if lease.state == LeaseState.ENDED:
        lines = lease.last_log.splitlines(keepends=True)
        return PlainTextResponse(
            "".join(lines if tail is None else lines[len(lines) - min(tail, len(lines)) :])
        )
    found = place.of(unit, lease)
    streams: Streams = request.app.state.connect(found.driver, found.address)
    return StreamingResponse(_stream(streams, found, follow, tail), media_type="text/plain; charset=utf-8")


async def _stream(streams: Streams, found: Place, follow: bool, tail: int | None) -> AsyncIterator[bytes]:
    """Bytes from a thread that reads the engine; when the caller goes, the thread is told and its stream closed."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | None] = asyncio.Queue(AHEAD)
    gone = threading.Event()

    def put(chunk: bytes | None) -> None:
        future = asyncio.run_coroutine_threadsafe(chunks.put(chunk), loop)
        while not gone.is_set():
            try:
                return future.result(0.5)
            except TimeoutError:
                continue
        future.cancel()
        return None

    def read() -> None:
        source = streams.logs(found.container, follow=follow, tail=tail)
        try:
            for chunk in source:
                put(chunk)
                if gone.is_set():
                    break
        except LeasingError as error:
            put(f"\n[leasing] the output ends here: {error}\n".encode())
        finally:
            if not gone.is_set():
                put(None)

    threading.Thread(target=read, name=f"logs-{found.container}", daemon=True).start()
    try:
        while (chunk := await chunks.get()) is not None:
            yield chunk
    finally:
        gone.set()
