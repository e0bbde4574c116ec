"""The bytes of one SSH connection, to and from the server inside a lease's container."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from leasing.errors import Unavailable
from leasing.sdk import sockets
from leasing.sdk.transport import Transport, at, stranger


class Tunnel:
    """What an SSH client says and hears, as if it had connected to a port."""

    def __init__(self, socket: ClientConnection, host_key: str) -> None:
        self._socket = socket
        self.host_key = host_key
        """The public key, as in a `known_hosts` file, that the server inside will prove to have."""

    @classmethod
    @contextmanager
    def open(cls, transport: Transport, lease: str, *, key: str) -> Iterator[Self]:
        """To a lease by id or name; who has the private half of `key`, a line as in `authorized_keys`, is let in.

        Raises the platform's refusal, `Unavailable`.
        """
        path = at("leases", lease, "tunnel")
        with sockets.opened(transport, path, [("key", key)], unfit="That is no public key.") as socket:
            try:
                said = json.loads(socket.recv())
            except ConnectionClosed as error:
                raise Unavailable(
                    f"{transport.url} broke off the connection.", hint="Try again in a moment."
                ) from error
            except ValueError as error:
                raise stranger(transport.url) from error
            if (refused := sockets.refusal(said)) is not None:
                raise refused
            if "host_key" not in said:
                raise stranger(transport.url)
            yield cls(socket, said["host_key"])

    def output(self) -> Iterator[bytes]:
        """What the server sends, until either side ends the connection. Raises what the platform ends it for."""
        try:
            for message in self._socket:
                if isinstance(message, bytes):
                    yield message
                elif (refused := sockets.refusal(json.loads(message))) is not None:
                    raise refused
        except ConnectionClosed:
            return

    def write(self, data: bytes) -> None:
        """Wait until it is on its way; what comes after the end is lost."""
        try:
            self._socket.send(data)
        except ConnectionClosed:
            return

    def close(self) -> None:
        self._socket.close()
