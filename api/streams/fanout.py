"""One database listener for the process, fanned out to everyone who follows events."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from leasing.database import EVENTS, Listener

SHUT_OUT = frozenset({"token.revoked", "user.changed", "project.member_set", "project.member_removed"})
"""Events of no lease after which somebody may be kept out of any."""


class Fanout:
    """Wakes followers when an event was written. A wake is a hint: what happened is read from the rows."""

    def __init__(self, url: str) -> None:
        self._listener = Listener(url, EVENTS, "leasing-api-listen")
        self._lock = threading.Lock()
        self._followers: dict[asyncio.Event, tuple[asyncio.AbstractEventLoop, str | None]] = {}
        self._thread = threading.Thread(target=self._run, name="fanout", daemon=True)
        self.closed = False
        """Set when the process stops: streams end at once."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.closed = True
        self._listener.stop()
        self._wake("")

    @asynccontextmanager
    async def follow(self, lease: str | None) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever there may be news of that lease (of any, for None)."""
        woken = asyncio.Event()
        with self._lock:
            self._followers[woken] = (asyncio.get_running_loop(), lease)
        try:
            yield woken
        finally:
            with self._lock:
                del self._followers[woken]

    def _run(self) -> None:
        for payload in self._listener.payloads():
            lease, _, kind = payload.partition(":")
            self._wake("" if kind in SHUT_OUT else lease)

    def _wake(self, lease: str) -> None:
        with self._lock:
            followers = list(self._followers.items())
        for woken, (loop, wanted) in followers:
            if not lease or wanted is None or wanted == lease:
                loop.call_soon_threadsafe(woken.set)
