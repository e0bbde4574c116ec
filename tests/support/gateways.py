"""A real gateway on either plane, the lease behind it, and an application that remembers every byte that reached it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import sqlalchemy as sa

from api.gateway import server
from leasing.database import now
from leasing.model import Lease, Run, TokenKind
from leasing.service import people, tickets
from leasing.settings.core import CoreSettings
from leasing.settings.gateway import GatewaySettings
from tests.support.cluster import Cluster
from tests.support.stack import free_port, until

Answer = Callable[[bytes], Iterable[bytes]]
"""What the application sends for a request's head: parts, each after the other; an empty one waits for the caller."""


def hello(head: bytes) -> list[bytes]:
    return [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"]


@dataclass
class Application:
    """Listens on loopback, takes HTTP/1.1 as it comes, keeps the heads and bodies as they stood on the wire."""

    answer: Answer = hello
    seen: list[bytes] = field(default_factory=list)
    """Each request, head and body, but the gateway's own question whether kernels work there."""
    open: list[socket.socket] = field(default_factory=list)
    port: int = 0
    """Where; 0: anywhere."""

    def __post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._listening, *self.open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # or the thread that waits for more keeps it open
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self._listening.accept()
            except OSError:
                return
            self.open.append(taken)
            threading.Thread(target=self._serve, args=(taken,), daemon=True).start()

    def _serve(self, taken: socket.socket) -> None:
        with suppress(OSError), taken.makefile("rb") as reader:
            while head := _head(reader.readline):
                body = b""
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        body = reader.read(int(line.partition(b":")[2]))
                if b"transfer-encoding: chunked" in head.lower():
                    while size := int(reader.readline().split(b";")[0], 16):
                        body += reader.read(size)
                        reader.readline()
                    reader.readline()
                if b"?no_track_activity=1" not in head.partition(b"\r\n")[0]:
                    self.seen.append(head + body)
                for part in self.answer(head):
                    if part:
                        taken.sendall(part)
                    else:
                        time.sleep(0.02)


def _head(line: Callable[[], bytes]) -> bytes:
    head = b""
    while part := line():
        head += part
        if part == b"\r\n":
            return head
    return b""


@dataclass
class Gate:
    """A gateway that serves, a lease of ada's on it, and her token."""

    settings: CoreSettings
    cluster: Cluster
    lease: Lease
    token: str
    application: Application

    @property
    def url(self) -> str:
        return self.settings.gateway_url

    def call(
        self, path: str = "", method: str = "POST", token: str | None = None, **more: str
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.token}"} | more
        return httpx.request(method, f"{self.url}/l/app/{path}", headers=headers, verify=False, timeout=10)

    def raw(self, data: bytes, seconds: float = 2.0) -> bytes:
        """What comes back for those very bytes until the other side closes, or nothing more comes."""
        with socket.create_connection(("127.0.0.1", self.settings.gateway_port), 5) as plain:
            plain.settimeout(seconds)
            plain.sendall(data.replace(b"TOKEN", self.token.encode()))
            answer = b""
            with suppress(TimeoutError, ConnectionResetError):
                while part := plain.recv(65536):
                    answer += part
            return answer


def ticket(cluster: Cluster, lease: Lease) -> str:
    """For a browser of ada's, which is signed in."""
    with cluster.sessions.begin() as session:
        user_id = cluster.ada.user_id
        browser, _ = people.issue(session, user_id, TokenKind.SESSION, "browser", expires_at=None)
        moment = now(session)
        return tickets.issue(session, user_id=user_id, lease_id=lease.id, opened_by=browser.id, now=moment)


@contextmanager
def opened(
    database_url: str, tmp_path: Path, *, core: dict[str, object] | None = None, **gateway: object
) -> Iterator[Gate]:
    """One for the length of a block; `core` and `gateway` are settings."""
    application = Application()
    with Cluster.opened(database_url) as cluster:
        lease = cluster.run(name="app", port=application.port)
        with cluster.sessions.begin() as session:
            session.execute(sa.update(Run).values(address="127.0.0.1"))
            _, token = people.issue(session, cluster.ada.user_id, TokenKind.API, "test", expires_at=None)
        settings = CoreSettings(state_dir=tmp_path, gateway_port=free_port(), **(core or {}))  # type: ignore[arg-type]  # pydantic checks them
        gate = Gate(settings, cluster, lease, token, application)
        options = GatewaySettings(**{"flush_seconds": 0.2, "poll_seconds": 0.3} | gateway)  # type: ignore[arg-type]  # pydantic checks them
        try:
            with serving(cluster, settings, options):
                until(lambda: _answers(gate), what="the gateway")
                application.seen.clear()
                yield gate
        finally:
            application.close()


@contextmanager
def serving(cluster: Cluster, settings: CoreSettings, options: GatewaySettings) -> Iterator[None]:
    """A gateway over those rows, in a thread, for endpoints on loopback."""
    stop = threading.Event()
    thread = threading.Thread(
        target=server.run,
        args=(settings, options),
        kwargs={"sessions": cluster.sessions, "url": cluster.url, "networks": ["127.0.0.0/8"], "stop": stop},
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def _answers(gate: Gate) -> bool:
    try:
        return gate.call().status_code == 200
    except httpx.TransportError:
        return False
