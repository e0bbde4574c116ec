"""Commands inside a lease's container over a WebSocket, with a terminal or without."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import anyio.from_thread
from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.streams import access, place, threads
from api.streams.hearing import hear
from api.streams.place import Place
from api.streams.room import Seated
from leasing.access import Action
from leasing.drivers.protocol import Streams
from leasing.drivers.streaming import ExecStream
from leasing.errors import LeasingError, Unavailable

router = APIRouter()
SHELL = ["/bin/sh", "-c", "unset COLUMNS LINES; command -v bash >/dev/null && exec bash -l || exec sh -l"]
"""Without the size that it began with: programs would believe that, and not what the window has become since."""
REFUSED = 4000
"""The close code of a refusal; its reason is the error's code, and the text frame before it says the rest."""


@dataclass(frozen=True)
class Owner:
    """Whose a terminal is."""

    lease_id: UUID
    user_id: UUID


@router.websocket("/leases/{ref}/terminal")
async def terminal(
    socket: WebSocket,
    ref: str,
    seat: Seated,
    command: Annotated[list[str] | None, Query(max_length=256)] = None,
    tty: bool = True,
    columns: Annotated[int, Query(ge=1, le=1000)] = 80,
    rows: Annotated[int, Query(ge=1, le=1000)] = 24,
    split: bool = False,
) -> None:
    """Binary frames are bytes, both ways. Text frames to the server: `{"resize": [columns, rows]}`, `{"eof": true}`.
    The last frame to the client is text: `{"exit_code": n}`. With `split`, and no terminal, what goes to standard error
    comes as `{"stderr": base64}`."""

    def aside(data: bytes) -> None:
        """In turn with the other output: whoever reads that waits for it."""
        anyio.from_thread.run(socket.send_text, json.dumps({"stderr": b64encode(data).decode()}))

    try:
        owner, found = await run_in_threadpool(authorised, socket, ref)
        seat.take(owner.user_id)
        streams: Streams = socket.app.state.connect(found.driver, found.address)
        process = await run_in_threadpool(
            lambda: streams.exec(
                found.container,
                command or SHELL,
                tty=tty,
                columns=columns,
                rows=rows,
                environment=found.environment,
                aside=aside if split and not tty else None,
            )
        )
    except LeasingError as error:
        await refuse(socket, error)
        return
    try:
        await socket.accept()
        async with access.while_allowed(socket, owner.lease_id, Action.ENTER, process.close):
            await _carry(socket, process, owner.lease_id)
    finally:
        with suppress(LeasingError):  # the container, or its engine, went first
            await run_in_threadpool(process.close)


async def refuse(socket: WebSocket, error: LeasingError) -> None:
    """In a text frame, for a browser is told nothing of a refused handshake."""
    await socket.accept()
    await socket.send_text(json.dumps({"error": error.code, "detail": error.message, "hint": error.hint}))
    await socket.close(REFUSED, error.code)


def authorised(socket: WebSocket, ref: str) -> tuple[Owner, Place]:
    """Who calls, and where the lease is that they may enter. Raises as `access.find` and `place.of`, `Unavailable`."""
    try:
        with socket.app.state.sessions.begin() as session:
            lease, caller = access.find(session, socket, ref, Action.ENTER)
            return Owner(lease.id, caller), place.of(session, lease)
    except (OperationalError, PoolTimeout) as error:
        raise Unavailable("The database does not answer; try again shortly.") from error


async def _carry(socket: WebSocket, process: ExecStream, lease_id: UUID) -> None:
    incoming = asyncio.create_task(_to_process(socket, process, lease_id))
    try:
        while data := await threads.wait_for(socket.app, process.read):
            await socket.send_bytes(data)
        code = await run_in_threadpool(exit_code, process)
        await socket.send_text(json.dumps({"exit_code": code}))
        await socket.close()
    except (WebSocketDisconnect, RuntimeError):
        pass  # the caller went first; closing the process is all that is left
    finally:
        incoming.cancel()


async def _to_process(socket: WebSocket, process: ExecStream, lease_id: UUID) -> None:
    if await hear(socket, process, lease_id):
        with suppress(OSError, LeasingError):
            await threads.wait_for(socket.app, process.close)


def exit_code(process: ExecStream) -> int | None:
    """None where nobody is left to ask."""
    try:
        return process.exit_code()
    except LeasingError:
        return None
