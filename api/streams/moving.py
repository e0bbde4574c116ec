"""When an open SSH connection is activity: it is not, for being open.

What the server inside tells counts: that a session began, and that somebody typed. Beyond that only what the client
sends says anything, for what it receives may be a program that prints; and of that a little is what any connection
says by itself: questions whether the other end is still there, of which an editor asks several at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

WINDOW_SECONDS = 5.0
QUIET_BYTES = 4096
"""So much in a window says nothing. An editor that nobody uses sends a few hundred bytes; a file that is copied, or a
page asked for through a forwarded port, sends more."""


class Moving:
    """Of one connection: counts what moves, in bytes, into what it is given."""

    def __init__(self, count: Callable[[int], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        self._began = clock()
        self._sent = 0

    def sent(self, size: int) -> None:
        """The client sent so much."""
        now = self._clock()
        if now - self._began >= WINDOW_SECONDS:
            self._began, self._sent = now, 0
        self._sent += size
        if (beyond := self._sent - QUIET_BYTES) > 0:
            self._count(min(size, beyond))

    def told(self, said: bytes) -> None:
        """The server inside wrote lines: one for each thing that somebody did."""
        self._count(said.count(b"\n"))
