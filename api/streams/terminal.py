"""Commands inside a lease's container over a WebSocket, with a terminal or without."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool

from api.deps import secret_of
from api.streams import place
from api.streams.place import Place
from leasing.drivers.protocol import ExecStream, Streams
from leasing.errors import LeasingError
from leasing.service import leases, people

router = APIRouter()
SHELL = ["/bin/sh", "-c", "command -v bash >/dev/null && exec bash -l || exec sh -l"]
REFUSED = 4000
"""The close code of a refusal; its reason is the error's code, and the text frame before it says the rest."""


@router.websocket("/leases/{ref}/terminal")
async def terminal(
    socket: WebSocket,
    ref: str,
    command: Annotated[list[str] | None, Query()] = None,
    tty: bool = True,
    columns: Annotated[int, Query(ge=1, le=1000)] = 80,
    rows: Annotated[int, Query(ge=1, le=1000)] = 24,
) -> None:
    """Binary frames are bytes, both ways. Text frames to the server: `{"resize": [columns, rows]}`, `{"eof": true}`.
    The last frame to the client is text: `{"exit_code": n}`."""
    try:
        found = await run_in_threadpool(_authorised, socket, ref)
        streams: Streams = socket.app.state.connect(found.driver, found.address)
        process = await run_in_threadpool(
            lambda: streams.exec(found.container, command or SHELL, tty=tty, columns=columns, rows=rows)
        )
    except LeasingError as error:
        await socket.accept()
        await socket.send_text(json.dumps({"error": error.code, "detail": error.message, "hint": error.hint}))
        await socket.close(REFUSED, error.code)
        return
    await socket.accept()
    try:
        await _carry(socket, process)
    finally:
        await run_in_threadpool(process.close)


def _authorised(socket: WebSocket, ref: str) -> Place:
    with socket.app.state.sessions.begin() as session:
        caller = people.authenticate(session, secret_of(socket))
        return place.of(session, leases.find(session, ref, principal=caller))


async def _carry(socket: WebSocket, process: ExecStream) -> None:
    incoming = asyncio.create_task(_to_process(socket, process))
    try:
        while data := await run_in_threadpool(process.read):
            await socket.send_bytes(data)
        code = await run_in_threadpool(process.exit_code)
        await socket.send_text(json.dumps({"exit_code": code}))
        await socket.close()
    except (WebSocketDisconnect, RuntimeError):
        pass  # the caller went first; closing the process is all that is left
    finally:
        incoming.cancel()


async def _to_process(socket: WebSocket, process: ExecStream) -> None:
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                await run_in_threadpool(process.close)
                return
            if (data := message.get("bytes")) is not None:
                await run_in_threadpool(process.write, data)
            elif (text := message.get("text")) is not None:
                await run_in_threadpool(_control, process, text)
    except (OSError, RuntimeError):
        return  # the process has ended: the reading side reports its exit


def _control(process: ExecStream, text: str) -> None:
    try:
        wish = json.loads(text)
    except ValueError:
        return
    match wish:
        case {"resize": [int(columns), int(rows)]} if 0 < columns <= 1000 and 0 < rows <= 1000:
            process.resize(columns=columns, rows=rows)
        case {"eof": True}:
            process.end_input()
