"""Following a container's output, and running commands inside it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import docker
from docker.errors import DockerException

from leasing.drivers.docker.connection import Connection
from leasing.drivers.docker.errors import engine_errors

CHUNK = 64 * 1024
SECOND = 2
"""Of the outputs that come in one stream: standard error."""


class Streams:
    """The streaming half of the driver."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def logs(self, container_id: str, *, follow: bool, tail: int | None) -> LogStream:
        return LogStream(
            self._connection,
            lambda client: client.logs(
                container_id, stream=True, follow=follow, tail="all" if tail is None else tail
            ),
        )

    def exec(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        tty: bool,
        columns: int = 80,
        rows: int = 24,
        environment: Mapping[str, str] | None = None,
        aside: Callable[[bytes], None] | None = None,
    ) -> ExecStream:
        given = {"COLUMNS": str(columns), "LINES": str(rows), **(environment or {})}
        if tty:
            given["TERM"] = "xterm-256color"
        with self._connection.call() as client:
            made = client.exec_create(container_id, list(command), stdin=True, tty=tty, environment=given)
            held = client.exec_start(made["Id"], socket=True, tty=tty)
            stream = ExecStream(self._connection, made["Id"], held, tty=tty, aside=aside)
        if tty:
            stream.resize(columns=columns, rows=rows)
        return stream


class Chunks:
    """What an engine sends piece by piece, its errors translated; iterated once.

    `begin` asks for it, on a connection of its own: whoever closes this, at whatever moment, cuts that connection, and
    one that others share would be theirs already if the last piece had just come.
    """

    def __init__(self, connection: Connection, begin: Callable[[docker.APIClient], Any]) -> None:
        self._address = connection.address
        self._opened = contextlib.ExitStack()
        self._stream: Any = None
        self._closed = False
        try:
            client = self._opened.enter_context(connection.fresh())
            with engine_errors(self._address):
                self._stream = begin(client)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            with engine_errors(self._address):
                chunk: bytes | None = next(self._stream, None)
        except Exception:
            if not self._closed:
                raise
            chunk = None  # whatever a reader says whose connection was cut
        if chunk is None:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """End it, whichever thread is waiting for more."""
        self._closed = True
        # it may be ending by itself just now; over SSH the SDK cannot cut a stream, which then ends by itself only
        with contextlib.suppress(OSError, AttributeError, DockerException):
            self._stream.close()
        self._opened.close()


class LogStream(Chunks):
    """A container's output, both streams in the order in which they came."""


class ExecStream:
    """A process in a container over the engine's hijacked connection."""

    def __init__(
        self,
        connection: Connection,
        exec_id: str,
        held: Any,
        *,
        tty: bool,
        aside: Callable[[bytes], None] | None = None,
    ) -> None:
        self._connection = connection
        self._id = exec_id
        self._held = held  # the response object keeps the connection open
        self._socket: socket.socket = getattr(held, "_sock", held)
        self._socket.settimeout(None)
        self._tty = tty
        self._aside = aside

    def read(self) -> bytes:
        try:
            if self._tty:
                return self._socket.recv(CHUNK)
            return self._frame()
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def end_input(self) -> None:
        """No more will be written: the process reads the end of its input."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def resize(self, *, columns: int, rows: int) -> None:
        with self._connection.call() as client:
            client.exec_resize(self._id, height=rows, width=columns)

    def exit_code(self) -> int | None:
        with self._connection.call() as client:
            facts = client.exec_inspect(self._id)
        return None if facts["Running"] else int(facts["ExitCode"])

    def close(self) -> None:
        """Hang up. The engine leaves the process running after a disconnect, so where the engine is on this machine the
        process gets the SIGHUP that a terminal's end would send it."""
        try:
            with self._connection.call() as client:
                facts = client.exec_inspect(self._id)
            if facts["Running"] and facts.get("Pid") and self._connection.address.startswith("unix://"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(facts["Pid"], signal.SIGHUP)
        finally:  # the container, or its engine, may be gone
            self._let_go()

    def hang_up(self) -> None:
        """End the connection, whichever thread is reading from it; the process goes on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _let_go(self) -> None:
        self.hang_up()
        # the SDK hangs the HTTP response on the socket's file, to keep it alive
        response = getattr(self._held, "_response", None)
        if response is not None:
            response.close()
        self._held.close()
        self._socket.close()

    def _frame(self) -> bytes:
        """The next of the multiplexed stream's frames that is to be read: 8 bytes of header, then that many of either
        output."""
        while header := self._exactly(8):
            output, size = struct.unpack(">BxxxI", header)
            frame = self._exactly(size)
            if output != SECOND or self._aside is None:
                return frame
            self._aside(frame)
        return b""

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                return b""
            data += part
        return data
