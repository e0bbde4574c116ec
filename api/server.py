"""Serving the api until told to stop."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from api import background, certificate
from leasing.database import Sessions
from leasing.errors import HostError
from leasing.keepalive import keep_alive
from leasing.service import parts
from leasing.settings.core import CoreSettings

log = logging.getLogger(__name__)
GRACE_SECONDS = 2


def run(app: FastAPI, settings: CoreSettings, sessions: Sessions, stop: threading.Event) -> None:
    """Serve on the settings' address, with TLS where it is not loopback; return soon after `stop` is set.

    Raises `HostError` where it cannot be listened on.
    """
    files = certificate.ensure(settings) if settings.tls else None
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ssl_certfile=files[0] if files else None,
            ssl_keyfile=files[1] if files else None,
        )
    )

    def watch() -> None:
        stop.wait()
        app.state.fanout.stop()  # endless streams end now; others get the grace
        app.state.stream_room.emptied(GRACE_SECONDS)  # each says why before the server closes connections
        server.should_exit = True

    with (
        _listeners(settings.listen, settings.port) as listeners,
        background.beside(
            stop,
            stop=watch,
            heartbeat=lambda: beat(sessions, "api", stop),
            typed=lambda: app.state.typed.run(stop),
        ),
    ):
        server.run(sockets=listeners)


@contextmanager
def _listeners(host: str, port: int) -> Iterator[list[socket.socket]]:
    """A socket for each address of the host; who comes before uvicorn serves them waits.

    They are ours because what they accept is probed like them: a quiet stream whose caller vanished would never end.
    """
    with ExitStack() as opened:
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            listeners = []
            for family, kind, protocol, _, address in dict.fromkeys(found):
                listeners.append(opened.enter_context(socket.socket(family, kind, protocol)))
                _listen(listeners[-1], address)
        except OSError as error:
            raise HostError(
                f"The api cannot listen on {host}, port {port}: {error.strerror}.",
                hint=f"LEASING_LISTEN and LEASING_PORT say where. Who has the port: ss -ltnp 'sport = :{port}'",
            ) from error
        log.info("listening host=%s port=%d", host, port)
        yield listeners


def _listen(made: socket.socket, address: Any) -> None:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a past connection is no hindrance
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
    keep_alive(made)
    made.bind(address)
    made.listen()


def beat(
    sessions: Sessions,
    role: str,
    stop: threading.Event,
    each: Callable[[], None] = lambda: None,
    *,
    part_id: UUID | None = None,
) -> None:
    """Say every few seconds that this process lives, until `stop`; a database that is away is waited for.

    `part_id`: its id, if it is known beforehand.
    """
    while not stop.is_set():
        try:
            with sessions.begin() as session:
                part_id = parts.join(session, role, part_id)
            each()
        except SQLAlchemyError as error:  # away, failing over, or without a connection to spare
            log.warning("no heartbeat role=%s at=%d error=%s", role, time.time(), type(error).__name__)
        stop.wait(parts.BEAT_SECONDS)
    if part_id is not None:
        leave(sessions, part_id)


def leave(sessions: Sessions, part_id: UUID) -> None:
    """This process stops in order; nobody waits for it any more."""
    try:
        with sessions.begin() as session:
            parts.leave(session, part_id)
    except SQLAlchemyError:
        log.info("the database was gone before this process")
