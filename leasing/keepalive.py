"""Noticing that the other end of a connection is gone where neither has anything to say for long."""

from __future__ import annotations

import socket

PROBES = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Gone is who leaves three probes unanswered, ten seconds apart, after half a minute of silence."""


def keep_alive(plain: socket.socket) -> None:
    """Have the kernel probe the other end; a connection that a listener accepts does as the listener was told."""
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
        if hasattr(socket, name):  # a user's machine need not be Linux
            plain.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
