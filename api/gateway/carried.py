"""What a call is to the two connections that it runs over: the caller's and the application's."""

from __future__ import annotations

from typing import Protocol

from api.gateway.wire.message import Field
from api.gateway.wire.responses import Response


class FromCaller(Protocol):
    """What a caller's connection tells of the request whose head it has read."""

    def body(self, part: bytes, /) -> None:
        """Some of the body; comes only once it was asked for (`Caller.pass_body`)."""

    def body_ended(self, trailers: list[Field], /) -> None: ...

    def malformed(self, words: str, status: int, /) -> None:
        """The body cannot be read any further."""

    def full(self) -> None:
        """The caller takes no more for now."""

    def drained(self) -> None:
        """It takes more."""

    def lost(self) -> None:
        """The caller is gone. Nothing comes after this."""

    def overdue(self) -> None:
        """The connection's deadline, which the call has set, has passed."""

    def through(self, data: bytes, /) -> None:
        """Bytes of a connection that has become a tunnel."""

    def through_ended(self) -> None:
        """The caller sends no more through the tunnel."""


class FromApplication(Protocol):
    """What an application's connection tells of its answer."""

    def answered(self, response: Response) -> None: ...

    def part(self, part: bytes, /) -> None: ...

    def flush(self) -> None:
        """Nothing more is there for now of what came at once."""

    def ended(self, trailers: list[Field], /) -> None:
        """The answer is whole. Nothing comes after this."""

    def broken(self, words: str, heard: bool, /) -> None:
        """The connection ended before its answer did; `heard`: some of that had come. Nothing comes after this."""

    def filled(self) -> None:
        """The application takes no more for now."""

    def ready(self) -> None:
        """It takes more."""

    def back(self, data: bytes, /) -> None:
        """Bytes of a connection that has become a tunnel."""

    def back_ended(self) -> None:
        """The application sends no more through the tunnel."""
