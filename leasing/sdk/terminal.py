"""A command inside a lease's container, over a WebSocket."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from leasing.errors import Unavailable
from leasing.sdk import sockets
from leasing.sdk.transport import Transport, at


class Terminal:
    """Bytes in, bytes out, and the exit code at the end."""

    def __init__(
        self, socket: ClientConnection, url: str, aside: Callable[[bytes], None] | None = None
    ) -> None:
        self._socket = socket
        self._aside = aside
        self._url = url
        self._ended = False
        self.exit_code = 255
        """255 until the command has ended."""

    @classmethod
    @contextmanager
    def open(
        cls,
        transport: Transport,
        lease: str,
        command: Sequence[str],
        *,
        tty: bool,
        columns: int = 80,
        rows: int = 24,
        aside: Callable[[bytes], None] | None = None,
    ) -> Iterator[Self]:
        """At a lease by id or name. Without a terminal, `aside` is given what goes to standard error.

        Raises `Unavailable`; the platform's own refusal comes with `output`.
        """
        wanted = [("tty", str(tty).lower()), ("columns", str(columns)), ("rows", str(rows))]
        wanted += [("split", "true")] if aside is not None else []
        query = [*wanted, *(("command", word) for word in command)]
        unfit = "That is too long a command (at most 256 words), or no size for a terminal."
        socket = sockets.opened(transport, at("leases", lease, "terminal"), query, unfit=unfit)
        with socket:
            yield cls(socket, transport.url, aside)

    def output(self) -> Iterator[bytes]:
        """What it prints, until it ends. Raises the platform's refusal; `Unavailable` when the connection breaks."""
        try:
            for message in self._socket:
                if isinstance(message, bytes):
                    yield message
                    continue
                said = json.loads(message)
                if "stderr" in said:
                    if self._aside is not None:
                        self._aside(b64decode(said["stderr"]))
                    continue
                if (refused := sockets.refusal(said)) is not None:
                    raise refused
                self._ended = True
                self.exit_code = said["exit_code"] if said["exit_code"] is not None else 255
        except ConnectionClosed:
            pass  # what matters is whether the command had ended before
        if not self._ended:
            raise Unavailable(
                f"The connection to {self._url} broke off; the command may still run.",
                hint="Is the lease still yours and running? lease ls",
            )

    def write(self, data: bytes) -> None:
        self._send(data)

    def resize(self, columns: int, rows: int) -> None:
        self._send(json.dumps({"resize": [columns, rows]}))

    def end_input(self) -> None:
        self._send(json.dumps({"eof": True}))

    def _send(self, message: bytes | str) -> None:
        try:
            self._socket.send(message)
        except ConnectionClosed:
            return  # the reading side says how it ended
