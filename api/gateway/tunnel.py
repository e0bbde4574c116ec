"""A WebSocket once both sides agreed to it: bytes both ways, and what the caller's messages tell of a person."""

from __future__ import annotations

import asyncio

from api.gateway import asking
from api.gateway.asked import Asked
from api.gateway.callers import NEVER, Caller
from api.gateway.live import Live
from api.gateway.traffic import FRAMES, Counters
from api.gateway.upstreams import Application
from api.gateway.wire.frames import Frames
from api.gateway.wire.message import Field
from api.gateway.wire.responses import Response

ENDING_SECONDS = 10.0
"""Once one side has ended, the other has so long."""


class Tunnel:
    """Takes over both connections from the exchange that asked for it."""

    __slots__ = (
        "_application_ended", "_caller", "_caller_ended", "_counters", "_frames", "_idle", "_live", "_loop", "_over",
        "_path", "_up", "asked",
    )  # fmt: skip

    def __init__(
        self,
        caller: Caller,
        up: Application,
        asked: Asked,
        counters: Counters,
        live: Live,
        *,
        idle_seconds: float,
    ) -> None:
        self.asked = asked
        self._caller = caller
        self._up = up
        self._counters = counters
        self._live = live
        self._idle = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        self._path = asked.place.path.decode("latin-1")
        self._caller_ended = self._application_ended = False
        self._over = False

    def start(self) -> None:
        self._live.add(self)
        self._caller.carried_by(self)
        self._up.handed_to(self)
        if self._caller.full:
            self._up.hold()
        self._moved()
        self._caller.tunnel()
        if not self._over:
            self._up.tunnel()

    # from the caller

    def through(self, data: bytes) -> None:
        lease_id = self.asked.target.lease_id
        own = 0
        for said in self._frames.feed(data):
            key = None if said is None else asking.message(self._path, said)
            if not self._counters.person(lease_id, key):
                own += FRAMES + len(said or b"")
        count = self._counters.of(lease_id)
        count.bytes_in += len(data)
        count.own_bytes += own
        self._moved()
        self._up.write(data)

    def through_ended(self) -> None:
        self._caller_ended = True
        self._up.shut()
        self._one_side_ended()

    def full(self) -> None:
        self._up.hold()

    def drained(self) -> None:
        self._up.go_on()

    def lost(self) -> None:
        self._end()
        self._up.drop()

    def overdue(self) -> None:
        self.cut()

    def body(self, part: bytes) -> None: ...

    def body_ended(self, trailers: list[Field]) -> None: ...

    def malformed(self, words: str, status: int) -> None: ...

    # from the application

    def back(self, data: bytes) -> None:
        self._counters.of(self.asked.target.lease_id).bytes_out += len(data)
        self._moved()
        self._caller.write(data)

    def back_ended(self) -> None:
        self._application_ended = True
        self._caller.shut()
        self._one_side_ended()

    def broken(self, _words: str, _heard: bool) -> None:
        if self._over:
            return
        self._end()
        if self._application_ended:
            self._caller.finish(keep=False)
        else:
            self._caller.abort()

    def filled(self) -> None:
        self._caller.hold()

    def ready(self) -> None:
        self._caller.go_on()

    def answered(self, response: Response) -> None: ...

    def part(self, part: bytes) -> None: ...

    def flush(self) -> None: ...

    def ended(self, trailers: list[Field]) -> None: ...

    # the end

    def cut(self) -> None:
        self._end()
        self._up.drop()
        self._caller.abort()

    def _one_side_ended(self) -> None:
        if self._caller_ended and self._application_ended:
            self._end()
            self._up.close()
            self._caller.finish(keep=False)
        else:
            self._caller.deadline = self._loop.time() + ENDING_SECONDS

    def _end(self) -> None:
        self._over = True
        self._caller.deadline = NEVER
        self._live.discard(self)

    def _moved(self) -> None:
        if not (self._caller_ended or self._application_ended):
            self._caller.deadline = self._loop.time() + self._idle
