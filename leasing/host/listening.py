"""Whether a port can be listened on, asked before a process is started that would die of it."""

from __future__ import annotations

import errno
import socket

from leasing.errors import HostError


def check(address: str, port: int, *, variable: str) -> None:
    """Raises `HostError` naming the setting (`variable` is the port's) that would help."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the servers do: a past connection is no hindrance
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            raise _refusal(error, address, port, variable) from None


def _refusal(error: OSError, address: str, port: int, variable: str) -> HostError:
    if error.errno == errno.EADDRINUSE:
        return HostError(
            f"Port {port} on {address} is taken by another program.",
            hint=f"End it (ss -ltnp 'sport = :{port}' names it), or choose another port: {variable}={port + 10}",
        )
    if error.errno == errno.EACCES:
        return HostError(
            f"Only root may listen on port {port}.", hint=f"Choose one above 1023: {variable}=8080"
        )
    return HostError(
        f"{address!r} is no IPv4 address of this machine.",
        hint="LEASING_LISTEN (or --listen) may be 127.0.0.1, 0.0.0.0 for every one, or one of: hostname -I",
    )
