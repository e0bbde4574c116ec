"""A request that waits before it is carried: for a lease that wakes, for its own body, for an answer from the cache."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from api.gateway.callers import NEVER, Caller
from api.gateway.problems import Problem
from api.gateway.wire.message import Field

log = logging.getLogger(__name__)


class Held:
    """One that waits for `work`, which in the end answers or has it carried. Who goes away ends the work."""

    def __init__(
        self, caller: Caller, work: Coroutine[object, object, None], over: Callable[[], None] = lambda: None
    ) -> None:
        """`over` is told of the work's end, whichever it is."""
        caller.carried_by(self)
        caller.deadline = NEVER
        self._caller = caller
        self._over = over
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._settle)

    def _settle(self, task: asyncio.Task[None]) -> None:
        """Nobody is left waiting by what went wrong on the way."""
        self._over()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a request that was held failed error=%r", error, exc_info=error)
            self._caller.refuse(
                Problem(
                    503,
                    "unavailable",
                    "The gateway could not find out; try again shortly.",
                    retry=2,
                    close=True,
                )
            )

    def lost(self) -> None:
        self._task.cancel()

    def overdue(self) -> None: ...

    def body(self, part: bytes) -> None: ...

    def body_ended(self, trailers: list[Field]) -> None: ...

    def malformed(self, words: str, status: int) -> None: ...

    def full(self) -> None: ...

    def drained(self) -> None: ...

    def through(self, data: bytes) -> None: ...

    def through_ended(self) -> None: ...


class Gathering:
    """One whose body is read up to a bound before anything else is done with it."""

    def __init__(
        self,
        caller: Caller,
        most: int,
        seconds: float,
        done: Callable[[bytes, bool], None],
        over: Callable[[], None],
    ) -> None:
        """`done` is told what there is, and whether that is all of it. `seconds`: without a byte, it is given up.

        `over` is told of an end without `done`.
        """
        self._caller = caller
        self._over = over
        self._most = most
        self._seconds = seconds
        self._done = done
        self._parts = bytearray()
        self._loop = asyncio.get_running_loop()
        caller.carried_by(self)
        self._wait()

    def body(self, part: bytes) -> None:
        self._parts += part
        if len(self._parts) > self._most:
            self._caller.hold_body()
            self._done(bytes(self._parts), False)
        else:
            self._wait()

    def body_ended(self, _: list[Field]) -> None:
        self._done(bytes(self._parts), True)

    def malformed(self, words: str, status: int) -> None:
        self._over()
        self._caller.refuse(Problem(status, "malformed", words, close=True))

    def overdue(self) -> None:
        self._over()
        words = f"Nothing came of the body for {self._seconds:g} s (LEASING_GATEWAY_BODY_SECONDS)."
        self._caller.refuse(Problem(408, "too_slow", words, close=True))

    def lost(self) -> None:
        self._over()

    def full(self) -> None: ...

    def drained(self) -> None: ...

    def through(self, data: bytes) -> None: ...

    def through_ended(self) -> None: ...

    def _wait(self) -> None:
        self._caller.deadline = self._loop.time() + self._seconds
