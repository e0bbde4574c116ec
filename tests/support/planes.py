"""The built-in plane by itself: real sockets and the real rule, on grants that a test writes down."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import uvloop
from sqlalchemy.orm import sessionmaker

from api.gateway.grants import Grants, Target, View, Visitor
from api.gateway.hooks import Cache
from api.gateway.plane import Plane
from api.gateway.traffic import Count, Counters
from leasing.schema.endpoint import EndpointOptions
from leasing.settings.gateway import GatewaySettings

TOKEN = "lse_of-ada"


class Written(Grants):
    """Grants that stand as they were written, and are followed like any."""

    def __init__(self) -> None:
        super().__init__(sessionmaker(), stale_seconds=1)
        self.believed = True

    @property
    def current(self) -> bool:
        return self.believed

    def write(self, view: View) -> None:
        """Returns once all that follows has it."""
        self._view = view
        for follower in self._followers:
            follower(view)


@dataclass
class Open:
    """A plane that serves, and one lease `app` of ada's on it."""

    port: int
    plane: Plane
    grants: Written
    counters: Counters
    target: Target
    visitor: Visitor
    lives: asyncio.AbstractEventLoop
    more: dict[str, Target] = field(default_factory=dict)

    def allow(self, *visitors: tuple[str, Visitor], target: Target | None = None) -> None:
        """These secrets only, and the lease so."""
        known = {hashlib.sha256(secret.encode()).digest(): visitor for secret, visitor in visitors}
        lease = target or self.target
        self.grants.write(View(known, {lease.name: lease, **self.more}))

    def change(self, **facts: Any) -> None:
        """The lease stands otherwise now."""
        self.target = replace(self.target, **facts)
        self.allow((TOKEN, self.visitor))

    def limit(self, **options: Any) -> None:
        self.change(endpoint=EndpointOptions(**options))

    @property
    def count(self) -> Count:
        return self.counters.of(self.target.lease_id)

    def connect(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), 5)
        made.settimeout(5)
        return made

    def raw(self, data: bytes, *, seconds: float = 5.0, eof: bool = False) -> bytes:
        """All that comes back for those very bytes; `seconds` without any are the end of it."""
        with self.connect() as plain:
            plain.settimeout(seconds)
            plain.sendall(data.replace(b"TOKEN", TOKEN.encode()))
            if eof:
                plain.shutdown(socket.SHUT_WR)
            return rest(plain)

    def ask(self, line: str = "GET /l/app/", *headers: str, body: bytes = b"") -> bytes:
        """One request of ada's, on a connection that closes after it."""
        named = ("Host: gate", f"Authorization: Bearer {TOKEN}", "Connection: close", *headers)
        if body:
            named += (f"Content-Length: {len(body)}",)
        return self.raw("\r\n".join((f"{line} HTTP/1.1", *named, "", "")).encode() + body)


def rest(plain: socket.socket) -> bytes:
    """What comes until the other side closes, or nothing more does."""
    answer = b""
    with suppress(TimeoutError, ConnectionResetError):
        while part := plain.recv(65536):
            answer += part
    return answer


def status(answer: bytes) -> int:
    """Of the first answer in it; 0 if there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


@contextmanager
def opened(
    port: int,
    *,
    domain: str | None = None,
    context: ssl.SSLContext | None = None,
    cache: Cache | None = None,
    **settings: Any,
) -> Iterator[Open]:
    """One for the length of a block, in front of the application at that port."""
    owner: UUID = uuid4()
    visitor = Visitor(uuid4(), owner, "ada", admin=False, lease_id=None, expires_at=None)
    target = Target(
        uuid4(), "app", owner, uuid4(), shared=False, state="running", message="", port=port, address="127.0.0.1",
        generation=1,
    )  # fmt: skip
    grants, counters = Written(), Counters()
    ready: list[Open] = []
    came = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        plane = Plane(
            grants, counters, sessionmaker(), GatewaySettings(**settings), api_url="http://pages",
            secure=context is not None, networks=[ipaddress.ip_network("127.0.0.0/8")], domain=domain,
            cache=cache,
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(plane.caller, "127.0.0.1", 0, backlog=4096, ssl=context)
        grants.on_load(plane.follow)
        sweeping = asyncio.ensure_future(plane.run())
        ready.append(
            Open(listening.sockets[0].getsockname()[1], plane, grants, counters, target, visitor, loop)
        )
        came.set()
        await stop.wait()
        listening.close()
        await plane.close(0.1)
        sweeping.cancel()

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    assert came.wait(10), "the plane did not start"
    made = ready[0]
    made.allow((TOKEN, visitor))
    try:
        yield made
    finally:
        made.lives.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive(), "the plane did not stop"


class Scripted:
    """An application of plain sockets: each connection is given to `serve`, in a thread of its own."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self.taken: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listening.accept()
                self.taken.append(plain)
                threading.Thread(target=self._one, args=(plain,), daemon=True).start()

    def _one(self, plain: socket.socket) -> None:
        with suppress(OSError), plain:
            self._serve(plain)

    def close(self) -> None:
        self._listening.close()
        for plain in self.taken:
            plain.close()


@contextmanager
def scripted(serve: Callable[[socket.socket], None]) -> Iterator[Scripted]:
    made = Scripted(serve)
    try:
        yield made
    finally:
        made.close()


def head(plain: socket.socket) -> bytes:
    """A request's head, to its last byte and none more; empty at the end."""
    found = b""
    while not found.endswith(b"\r\n\r\n"):
        one = plain.recv(1)
        if not one:
            return b""
        found += one
    return found
