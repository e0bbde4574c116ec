"""SSH into a lease's container over a WebSocket: no port is published, and the container needs no network.

A server of the platform's own is started inside for each connection (images/ssh), as the lease's user, over the
engine's own way to run commands. It lets in one key, for that connection only: the one that came with this call, whose
token the api has checked. Its host key goes to the client here, so nobody is asked whether to trust it.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, FastAPI, Query, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool

from api.streams import access, threads
from api.streams.moving import Moving
from api.streams.place import Place
from api.streams.room import Seated
from api.streams.terminal import authorised, refuse
from leasing.access import Action
from leasing.drivers.protocol import Streams
from leasing.drivers.spec import TOOLS
from leasing.drivers.streaming import ExecStream
from leasing.errors import Conflict, ContainerGone, DriverError, EngineDown, LeasingError
from leasing.secrets import signing_key
from leasing.service import host_keys
from leasing.service.host_keys import HostKey

router = APIRouter()
PUBLIC_KEY = r"^(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}$"
BANNER = b"SSH-2.0-"
BANNER_SECONDS = 20.0
LOOKS, LOOK_SECONDS = 10, 0.2
"""For the reason of an end, see `_why`."""


@router.websocket("/leases/{ref}/tunnel")
async def tunnel(
    socket: WebSocket,
    ref: str,
    seat: Seated,
    key: Annotated[str, Query(max_length=2000, pattern=PUBLIC_KEY)],
) -> None:
    """Binary frames are an SSH connection's bytes, both ways; `key` is the public key that it will sign in with.
    The first frame to the client is text: `{"host_key": "ssh-ed25519 …"}`."""
    app: FastAPI = socket.app
    try:
        owner, found = await run_in_threadpool(authorised, socket, ref)
        seat.take(owner.user_id)
        lease_id = owner.lease_id
        host = await run_in_threadpool(_host_key, app, lease_id)
        moving = Moving(lambda size: app.state.typed.count(lease_id, size))
        process = await run_in_threadpool(_start, app, found, moving)
    except LeasingError as error:
        await refuse(socket, error)
        return
    try:
        try:
            first = await _first(app, process, key, host)
        except LeasingError as error:
            await refuse(socket, error)
            return
        await socket.accept()
        await socket.send_text(json.dumps({"host_key": host.public}))
        async with access.while_allowed(socket, lease_id, Action.ENTER, process.close):
            await _carry(socket, process, moving, first, lease_id)
    finally:
        with suppress(LeasingError):  # the container, or its engine, went first
            await run_in_threadpool(process.close)


def _host_key(app: FastAPI, lease_id: UUID) -> HostKey:
    return host_keys.of(signing_key(app.state.settings.secret_key_file(), host_keys.PURPOSE), lease_id)


def _start(app: FastAPI, found: Place, moving: Moving) -> ExecStream:
    streams: Streams = app.state.connect(found.driver, found.address)
    try:
        return streams.exec(
            found.container,
            [f"{TOOLS}/start"],
            tty=False,
            environment=found.environment,
            aside=moving.told,
        )
    except (EngineDown, ContainerGone):
        raise
    except DriverError as error:
        raise _no_way_in(error.message) from error


async def _first(app: FastAPI, process: ExecStream, key: str, host: HostKey) -> bytes:
    """What the server says first. Raises `Conflict`, or `DriverError` with what is said instead."""
    said = b""
    try:
        async with asyncio.timeout(BANNER_SECONDS):
            await threads.wait_for(app, process.write, f"{key}\n{host.private}".encode())
            while len(said) < len(BANNER) and BANNER.startswith(said):
                piece = await threads.wait_for(app, process.read)
                if not piece:
                    break
                said += piece
    except TimeoutError:
        said = said or f"nothing answered for {BANNER_SECONDS:.0f} s".encode()
    except OSError:
        pass  # it has ended before it read all: what it said is not known any more
    if not said.startswith(BANNER):
        raise _no_way_in(said.decode(errors="replace"))
    return said


def _no_way_in(said: str) -> LeasingError:
    if "is not running" in said:
        return Conflict("The lease's container has ended.", hint="See why: lease why NAME")
    if not said.strip() or "no such file" in said.lower() or "not found" in said.lower():
        return Conflict(
            "This lease's container was made before its node had the platform's SSH server.",
            hint="Suspend and resume it, which keeps its files, and it has it; or go in by: lease exec NAME",
        )
    return DriverError(
        f"The SSH server does not start in this container: {' '.join(said.split())[:300]}",
        hint="Go in by: lease exec NAME",
    )


async def _carry(
    socket: WebSocket, process: ExecStream, moving: Moving, first: bytes, lease_id: UUID
) -> None:
    incoming = asyncio.create_task(_to_server(socket, process, moving))
    try:
        await socket.send_bytes(first)
        while data := await threads.wait_for(socket.app, process.read):
            await socket.send_bytes(data)
        if (why := await _why(socket, lease_id, incoming)) is not None:
            await socket.send_text(json.dumps({"error": why.code, "detail": why.message, "hint": why.hint}))
        await socket.close()
    except (WebSocketDisconnect, RuntimeError):
        pass  # the caller went first; closing the process is all that is left
    finally:
        incoming.cancel()


async def _why(socket: WebSocket, lease_id: UUID, incoming: asyncio.Task[None]) -> LeasingError | None:
    """What the caller was cut off for; None where the connection ended by itself, which its client knows before us.

    A container that was stopped is dead a little before its lease's row says so.
    """
    for _ in range(LOOKS):
        if incoming.done() or socket.app.state.fanout.closed:
            return None
        try:
            await run_in_threadpool(authorised, socket, str(lease_id))
        except LeasingError as error:
            return error
        await asyncio.sleep(LOOK_SECONDS)
    return None


async def _to_server(socket: WebSocket, process: ExecStream, moving: Moving) -> None:
    try:
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            if (data := message.get("bytes")) is not None:
                moving.sent(len(data))
                await threads.wait_for(socket.app, process.write, data)
        await threads.wait_for(socket.app, process.close)
    except (OSError, RuntimeError, LeasingError):
        return  # the server has ended: the reading side sees it
