"""A shell in a lease's container for a page in a browser: it outlives a reload, and says why it ended."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool

from api.streams import threads
from api.streams.hearing import hear
from api.streams.kept import Kept, Terminals
from api.streams.room import Seated
from api.streams.terminal import REFUSED, SHELL, authorised, refuse
from leasing.drivers.protocol import Streams
from leasing.errors import LeasingError

router = APIRouter()
Size = Annotated[int, Query(ge=1, le=1000)]


@router.websocket("/leases/{ref}/terminals")
async def open_terminal(
    socket: WebSocket, ref: str, seat: Seated, columns: Size = 80, rows: Size = 24
) -> None:
    """Frames as of `/terminal`. The first is text, `{"terminal": id}`, the last `{"exit_code": n, "reason": text}`."""
    try:
        owner, found = await run_in_threadpool(authorised, socket, ref)
        terminals: Terminals = socket.app.state.terminals
        terminals.check_room(owner)
        seat.take(owner.user_id)
        streams: Streams = socket.app.state.connect(found.driver, found.address)
        process = await run_in_threadpool(
            lambda: streams.exec(
                found.container, SHELL, tty=True, columns=columns, rows=rows, environment=found.environment
            )
        )
    except LeasingError as error:
        await refuse(socket, error)
        return
    kept = Kept(socket.app, owner, process, socket, seat.handed_over())
    terminals.keep(kept)
    await _look(socket, kept, again=False)


@router.websocket("/leases/{ref}/terminals/{terminal}")
async def look_again(socket: WebSocket, ref: str, terminal: str, columns: Size = 80, rows: Size = 24) -> None:
    """Take it up again: what it printed last comes first, up to `{"ready": true}`. Where else it was shown, it is no
    more: the last frame there is `{"error": "taken", …}`."""
    try:
        owner, _ = await run_in_threadpool(authorised, socket, ref)
        kept: Kept = socket.app.state.terminals.find(terminal, owner)
    except LeasingError as error:
        await refuse(socket, error)
        return
    await threads.wait_for(socket.app, kept.fit, columns, rows)
    await _look(socket, kept, again=True)


async def _look(socket: WebSocket, kept: Kept, *, again: bool) -> None:
    """Until it has ended, or is looked at elsewhere, or nobody looks any more."""
    await socket.accept()
    viewer, past = kept.take(socket)
    hearing = asyncio.create_task(hear(socket, kept.process, kept.owner.lease_id))
    showing = asyncio.create_task(_show(socket, kept, viewer, past, again=again))
    try:
        await asyncio.wait({hearing, showing}, return_when=asyncio.FIRST_COMPLETED)
        if not hearing.done() or not hearing.result():  # who left is shown nothing more
            await showing
    except (WebSocketDisconnect, RuntimeError):
        pass  # the caller went first
    finally:
        kept.leave(viewer)
        for task in (hearing, showing):
            task.cancel()
        await asyncio.gather(hearing, showing, return_exceptions=True)


async def _show(socket: WebSocket, kept: Kept, viewer: object, past: bytes, *, again: bool) -> None:
    """What was printed before `ready` is for a terminal that must not answer it: it was answered once."""
    ready = json.dumps({"ready": True})
    await socket.send_text(json.dumps({"terminal": kept.id}))
    for frame in (past, ready) if again else (ready, past):
        await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_text(frame))
    if await kept.show(viewer, socket.send_bytes):
        await socket.send_text(json.dumps(kept.ended))
        kept.tell()
        await socket.close()
        return
    said = "This terminal is shown elsewhere now."
    with suppress(RuntimeError):
        await socket.send_text(json.dumps({"error": "taken", "detail": said, "hint": None}))
        await socket.close(REFUSED, "taken")
