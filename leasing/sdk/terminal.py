"""A command inside a lease's container, over a WebSocket."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from leasing.errors import Invalid, LeasingError, Unavailable, by_code
from leasing.sdk.transport import Transport, at, stranger


class Terminal:
    """Bytes in, bytes out, and the exit code at the end."""

    def __init__(self, socket: ClientConnection, url: str) -> None:
        self._socket = socket
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
    ) -> Iterator[Self]:
        """At a lease by id or name. Raises `Unavailable`; the platform's own refusal comes with `output`."""
        wanted = [("tty", str(tty).lower()), ("columns", str(columns)), ("rows", str(rows))]
        query = urlencode([*wanted, *(("command", word) for word in command)])
        url = f"ws{transport.url.removeprefix('http')}/api/v1{at('leases', lease, 'terminal')}?{query}"
        try:
            socket = connect(
                url,
                additional_headers={"Authorization": f"Bearer {transport.token}"},
                ssl=transport.verify if isinstance(transport.verify, ssl.SSLContext) else None,
                max_size=None,
                compression=None,
            )
        except InvalidStatus as error:
            raise _refused(transport, error) from error
        except (OSError, InvalidHandshake) as error:
            raise Unavailable(
                f"{transport.url} does not answer: {error}.", hint="Is it running? On the server: make run"
            ) from error
        with socket:
            yield cls(socket, transport.url)

    def output(self) -> Iterator[bytes]:
        """What it prints, until it ends. Raises the platform's refusal; `Unavailable` when the connection breaks."""
        try:
            for message in self._socket:
                if isinstance(message, bytes):
                    yield message
                    continue
                said = json.loads(message)
                if "error" in said:
                    raise by_code().get(said["error"], LeasingError)(said["detail"], hint=said.get("hint"))
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


def _refused(transport: Transport, error: InvalidStatus) -> LeasingError:
    """The api refuses a handshake only for what the address says; a proxy before it may for anything."""
    status = error.response.status_code
    if status == 403:
        return Invalid("That is too long a command, or no size for a terminal.", hint="At most 256 words.")
    if status >= 500:
        return Unavailable(
            f"{transport.url} answered {status}.", hint="Is it running? On the server: make run"
        )
    return stranger(transport.url)
