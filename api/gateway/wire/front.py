"""The line with which a proxy in front of this one says who calls (PROXY protocol, version 1)."""

from __future__ import annotations

import ipaddress

from api.gateway.wire.message import Malformed

LONGEST = 107


def parse(buffer: bytes) -> tuple[bytes, bytes] | None:
    """The caller's address and what follows; None while the line is not all there. Raises `Malformed`."""
    line, end, rest = buffer.partition(b"\r\n")
    if not end:
        if len(buffer) > LONGEST or not b"PROXY ".startswith(buffer[:6]):
            raise Malformed("No line PROXY.")
        return None
    words = line.split(b" ")
    if words[:2] == [b"PROXY", b"UNKNOWN"]:
        return b"", rest
    if len(words) != 6 or words[0] != b"PROXY" or words[1] not in (b"TCP4", b"TCP6"):
        raise Malformed("No line PROXY.")
    try:
        return str(ipaddress.ip_address(words[2].decode("latin-1"))).encode(), rest
    except ValueError as error:
        raise Malformed("No line PROXY.") from error
