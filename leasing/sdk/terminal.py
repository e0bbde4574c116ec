"""A command inside a lease's container, over a WebSocket."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self
from urllib.parse import urlencode
from uuid import UUID

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from leasing.errors import LeasingError, Unavailable, by_code
from leasing.sdk.transport import Transport


class Terminal:
    """Bytes in, bytes out, and the exit code at the end."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.exit_code = 255
        """255 until the command has ended."""

    @classmethod
    @contextmanager
    def open(
        cls,
        transport: Transport,
        lease: UUID,
        command: Sequence[str],
        *,
        tty: bool,
        columns: int = 80,
        rows: int = 24,
    ) -> Iterator[Self]:
        """Raises `Unavailable`, and whatever the platform refuses with."""
        wanted = [("tty", str(tty).lower()), ("columns", str(columns)), ("rows", str(rows))]
        query = urlencode([*wanted, *(("command", word) for word in command)])
        url = f"ws{transport.url.removeprefix('http')}/api/v1/leases/{lease}/terminal?{query}"
        context = transport.verify if isinstance(transport.verify, ssl.SSLContext) else None
        try:
            with connect(
                url,
                additional_headers={"Authorization": f"Bearer {transport.token}"},
                ssl=context,
                max_size=None,
                compression=None,
            ) as socket:
                yield cls(socket)
        except (OSError, InvalidHandshake) as error:
            raise Unavailable(f"{transport.url} does not answer: {error}.") from error

    def output(self) -> Iterator[bytes]:
        """What it prints, until it ends. Raises the platform's refusal."""
        try:
            for message in self._socket:
                if isinstance(message, bytes):
                    yield message
                    continue
                said = json.loads(message)
                if "error" in said:
                    raise by_code().get(said["error"], LeasingError)(said["detail"], hint=said.get("hint"))
                self.exit_code = said["exit_code"] if said["exit_code"] is not None else 255
        except ConnectionClosed:
            return

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
