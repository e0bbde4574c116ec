"""A proxy by itself: a real HAProxy on a view made by hand, without a database and without the built-in plane."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import httpx

from api.gateway.grants import Target, View, Visitor
from api.gateway.proxy.front import Front
from leasing.settings.core import CoreSettings
from leasing.settings.gateway import GatewaySettings
from tests.support.gateways import Application
from tests.support.stack import free_port, until


def visitor(secret: str, user: str = "ada", **facts: object) -> tuple[bytes, Visitor]:
    """An entry of a view: who that secret stands for."""
    made = Visitor(uuid4(), UUID(bytes=hashlib.md5(user.encode()).digest()), user, False, None, None)
    return hashlib.sha256(secret.encode()).digest(), replace(made, **facts)  # type: ignore[arg-type]  # the dataclass checks the names


def target(port: int, name: str = "app", owner: str = "ada", **facts: object) -> Target:
    """A running lease's endpoint on loopback."""
    made = Target(
        uuid4(),
        name,
        UUID(bytes=hashlib.md5(owner.encode()).digest()),
        uuid4(),
        False,
        "running",
        "",
        port,
        "127.0.0.1",
    )
    return replace(made, **facts)  # type: ignore[arg-type]  # the dataclass checks the names


def view(visitors: Sequence[tuple[bytes, Visitor]], targets: Sequence[Target]) -> View:
    return View(dict(visitors), {one.name: one for one in targets})


@dataclass
class Fronted:
    """A front that runs, the application behind it, and what its clock says."""

    front: Front
    settings: CoreSettings
    application: Application
    hints: list[int] = field(default_factory=list)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def url(self) -> str:
        return self.settings.gateway_url

    @property
    def pid(self) -> int:
        """HAProxy's."""
        return self.front._child._process.pid  # type: ignore[union-attr]  # it runs

    def call(self, secret: str = "s", name: str = "app", path: str = "", **headers: str) -> httpx.Response:
        return httpx.post(
            f"{self.url}/l/{name}/{path}", headers={"Authorization": f"Bearer {secret}"} | headers, verify=False,
            timeout=10,
        )  # fmt: skip

    def raw(self, data: bytes, seconds: float = 2.0) -> bytes:
        """The answer to those very bytes."""
        with socket.create_connection(("127.0.0.1", self.settings.gateway_port), 5) as plain:
            plain.settimeout(seconds)
            plain.sendall(data)
            answer = b""
            with suppress(TimeoutError, ConnectionResetError):
                while not answer.endswith((b"}", b"hello")) and (part := plain.recv(65536)):
                    answer += part
            return answer


@contextmanager
def opened(tmp_path: Path, *, core: dict[str, object] | None = None, **gateway: object) -> Iterator[Fronted]:
    """One for the length of a block; nothing is granted yet."""
    settings = CoreSettings(state_dir=tmp_path, gateway_port=free_port(), **(core or {}))  # type: ignore[arg-type]  # pydantic checks them
    options = GatewaySettings(**{"plane": "haproxy", "proxy_threads": 1} | gateway)  # type: ignore[arg-type]  # pydantic checks them
    application, stop = Application(), threading.Event()
    made: list[Fronted] = []
    front = Front(
        settings, options, networks=["127.0.0.0/8"], clock=lambda: made[0].now if made else datetime.now(UTC)
    )
    made.append(Fronted(front, settings, application))
    thread = threading.Thread(target=front.run, args=(stop, lambda: made[0].hints.append(1)))
    thread.start()
    try:
        until(lambda: made[0].hints, what="the proxy")
        yield made[0]
    finally:
        stop.set()
        thread.join(10)
        front.close()
        application.close()
        assert not thread.is_alive()


def served(fronted: Fronted) -> list[str]:
    """The first lines of what reached the application."""
    return [one.partition(b"\r\n")[0].decode() for one in fronted.application.seen]


def headers(request: bytes) -> dict[str, str]:
    """Of a request as it stood on the wire, names in small letters."""
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


def curl(*arguments: str) -> str:
    return subprocess.run(
        ["curl", "-sS", *arguments], capture_output=True, text=True, timeout=20, check=False
    ).stdout
