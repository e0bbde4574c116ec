"""How many streams one process serves: of all users, and of each, so that no one user's script keeps the others out."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import Depends
from starlette.requests import HTTPConnection

from leasing.errors import OverQuota, Unavailable

MOST_STREAMS = 256
"""Logs, terminals, SSH connections and files under way at one time, in one process."""
MOST_OF_ONE = 64
"""Of one user."""


class Room:
    """Who has how many streams open in this process."""

    def __init__(self) -> None:
        self._left = threading.Condition()
        self.open: Counter[UUID] = Counter()

    def enter(self, user_id: UUID) -> None:
        """Raises `OverQuota`, and `Unavailable` when no more streams can be served to anybody."""
        with self._left:
            if self.open[user_id] >= MOST_OF_ONE:
                raise OverQuota(
                    f"You have {MOST_OF_ONE} streams open on this server, the most that one user may.",
                    hint="End some: each followed log, terminal, SSH connection and copy of files is one.",
                )
            if self.open.total() >= MOST_STREAMS:
                raise Unavailable(
                    f"{MOST_STREAMS} logs and terminals are open on this server.",
                    hint="Try again in a minute.",
                )
            self.open[user_id] += 1

    def leave(self, user_id: UUID) -> None:
        with self._left:
            self.open[user_id] -= 1
            if not self.open[user_id]:
                del self.open[user_id]
            self._left.notify_all()

    def emptied(self, seconds: float) -> bool:
        """Wait until nobody streams, so long at most; whether that came."""
        with self._left:
            return self._left.wait_for(lambda: not self.open, seconds)


class Seat:
    """One stream's part of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._user_id: UUID | None = None

    def take(self, user_id: UUID) -> None:
        """Once, however often asked. Raises as `Room.enter`."""
        if self._user_id is None:
            self._room.enter(user_id)
            self._user_id = user_id

    def leave(self) -> None:
        """Idempotent."""
        user_id, self._user_id = self._user_id, None
        if user_id is not None:
            self._room.leave(user_id)

    def handed_over(self) -> Seat:
        """The same to somebody else, who leaves it: this one no longer does."""
        other = Seat(self._room)
        other._user_id, self._user_id = self._user_id, None
        return other


async def _seat(connection: HTTPConnection) -> AsyncIterator[Seat]:
    seat = Seat(connection.app.state.stream_room)
    try:
        yield seat
    finally:
        seat.leave()


Seated = Annotated[Seat, Depends(_seat, scope="request")]
"""Empty until it is taken; left when the answer has gone out or the connection has ended, however that came."""
