"""Commands inside a lease's container over a WebSocket, with a terminal or without."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import OperationalError

from api.streams import access, place, threads
from api.streams.place import Place
from leasing.drivers.protocol import Streams
from leasing.drivers.streaming import ExecStream
from leasing.errors import LeasingError, Unavailable

router = APIRouter()
SHELL = ["/bin/sh", "-c", "command -v bash >/dev/null && exec bash -l || exec sh -l"]
REFUSED = 4000
"""The close code of a refusal; its reason is the error's code, and the text frame before it says the rest."""
MAX_CONTROL = 1000


@router.websocket("/leases/{ref}/terminal")
async def terminal(
    socket: WebSocket,
    ref: str,
    command: Annotated[list[str] | None, Query(max_length=256)] = None,
    tty: bool = True,
    columns: Annotated[int, Query(ge=1, le=1000)] = 80,
    rows: Annotated[int, Query(ge=1, le=1000)] = 24,
) -> None:
    """Binary frames are bytes, both ways. Text frames to the server: `{"resize": [columns, rows]}`, `{"eof": true}`.
    The last frame to the client is text: `{"exit_code": n}`."""
    try:
        threads.check_room(socket.app)
        lease_id, found = await run_in_threadpool(_authorised, socket, ref)
        streams: Streams = socket.app.state.connect(found.driver, found.address)
        process = await run_in_threadpool(
            lambda: streams.exec(
                found.container,
                command or SHELL,
                tty=tty,
                columns=columns,
                rows=rows,
                environment=found.environment,
            )
        )
    except LeasingError as error:
        await socket.accept()  # a browser is told nothing of a refused handshake
        await socket.send_text(json.dumps({"error": error.code, "detail": error.message, "hint": error.hint}))
        await socket.close(REFUSED, error.code)
        return
    try:
        await socket.accept()
        async with access.while_allowed(socket, lease_id, process.close):
            await _carry(socket, process, lease_id)
    finally:
        with suppress(LeasingError):  # the container, or its engine, went first
            await run_in_threadpool(process.close)


def _authorised(socket: WebSocket, ref: str) -> tuple[UUID, Place]:
    try:
        with socket.app.state.sessions.begin() as session:
            lease = access.find(session, socket, ref)
            return lease.id, place.of(session, lease)
    except OperationalError as error:
        raise Unavailable("The database does not answer; try again shortly.") from error


async def _carry(socket: WebSocket, process: ExecStream, lease_id: UUID) -> None:
    incoming = asyncio.create_task(_to_process(socket, process, lease_id))
    try:
        while data := await threads.wait_for(socket.app, process.read):
            await socket.send_bytes(data)
        code = await run_in_threadpool(_exit_code, process)
        await socket.send_text(json.dumps({"exit_code": code}))
        await socket.close()
    except (WebSocketDisconnect, RuntimeError):
        pass  # the caller went first; closing the process is all that is left
    finally:
        incoming.cancel()


async def _to_process(socket: WebSocket, process: ExecStream, lease_id: UUID) -> None:
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                await threads.wait_for(socket.app, process.close)
                return
            if (data := message.get("bytes")) is not None:
                socket.app.state.typed.add(lease_id, data)
                await threads.wait_for(socket.app, process.write, data)
            elif (text := message.get("text")) is not None and len(text) <= MAX_CONTROL:
                await threads.wait_for(socket.app, _control, process, text)
    except (OSError, RuntimeError, LeasingError):
        return  # the process has ended: the reading side reports its exit


def _exit_code(process: ExecStream) -> int | None:
    try:
        return process.exit_code()
    except LeasingError:
        return None  # nobody is left to ask


def _control(process: ExecStream, text: str) -> None:
    try:
        wish = json.loads(text)
    except (ValueError, RecursionError):
        return
    match wish:
        case {"resize": [int(columns), int(rows)]} if 0 < columns <= 1000 and 0 < rows <= 1000:
            process.resize(columns=columns, rows=rows)
        case {"eof": True}:
            process.end_input()
