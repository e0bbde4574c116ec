"""A Redis server of a test's own, on loopback, that keeps nothing on disk."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leasing.host.packages import program
from tests.support.stack import free_port, until

MOST = "32mb"


@contextmanager
def serving(folder: Path, port: int | None = None) -> Iterator[str]:
    """Its address."""
    server = program("redis-server")
    assert server is not None, "python -m leasing.host setup --for-tests installs it"
    port = port or free_port()
    command = [
        server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder),
        "--maxmemory", MOST, "--maxmemory-policy", "allkeys-lru",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: _answers(port), what="redis", seconds=10)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as one:
            one.sendall(b"PING\r\n")
            return one.recv(16).startswith(b"+PONG")
    except OSError:
        return False
