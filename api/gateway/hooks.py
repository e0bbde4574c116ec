"""Where other parts of the gateway take part in a call: what wakes a lease, and what answers instead of it.

The plane knows these two seams and nothing of what stands behind them. Both are called on the event loop's thread, and
only for a caller whom `api.gateway.authorise` knows and lets through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from api.gateway.grants import Target, Visitor
from api.gateway.problems import Problem

Headers = Sequence[tuple[bytes, bytes]]
"""In order, names as they were written."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may pass, before its application is asked."""

    visitor: Visitor
    target: Target
    method: str
    path: str
    """With its query, as the application gets it: without the endpoint's prefix."""
    headers: Headers
    """The caller's, without the platform's credentials and without what belongs to the connection."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer that is given instead of the application's."""

    status: int
    reason: str
    headers: Headers
    """Without Content-Length, Transfer-Encoding and Connection: the plane frames it."""
    body: bytes


class Recorder(Protocol):
    """Hears an answer while it passes to its caller. `head` and `data` say whether it still wants to hear.

    `end` comes exactly once whatever happened, also after a False and if there never was a head.
    """

    marks: Headers
    """Headers that are added to the answer: that it was no hit."""

    def head(self, status: int, reason: str, headers: Headers) -> bool:
        """The application's, before redirects and cookies are put below the prefix."""

    def data(self, part: bytes) -> bool: ...

    def end(self, *, whole: bool) -> None:
        """`whole`: all of it was heard, and the application ended it properly."""


class Cache(Protocol):
    """Answers calls that were answered before."""

    def gathers(self, call: Call, length: int | None) -> int | None:
        """None: the call is none of its business, and costs nothing more.

        Otherwise so many bytes of the body are gathered before `find`; one that turns out longer is passed on without
        it. `length` is what the caller says: 0 for no body, None where it cannot be known (chunked).
        """

    async def find(self, call: Call, body: bytes) -> Answer | Recorder | None:
        """A hit; or who wants to hear the application's answer; or neither. May wait for an equal call under way."""

    async def close(self) -> None:
        """Nothing more is asked of it."""


class Waker(Protocol):
    """Brings back leases that sleep."""

    def wakes(self, visitor: Visitor, target: Target) -> bool:
        """Whether a call of this caller wakes it; asked of leases that do not run."""

    async def wake(self, visitor: Visitor, target: Target) -> Problem | None:
        """Wake it and wait. None: ask the rule again, for it should run now; else what the caller is told.

        Meanwhile nothing is read from the caller beyond what its socket and one buffer hold.
        """

    async def close(self) -> None:
        """Nothing more is asked of it."""
