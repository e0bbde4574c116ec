"""The driver contract's streams: bytes that come from a container, or go both ways."""

from __future__ import annotations

from typing import Protocol


class LogStream(Protocol):
    """A container's output as it comes; iterated once."""

    def __iter__(self) -> LogStream: ...

    def __next__(self) -> bytes: ...

    def close(self) -> None:
        """Ends the iteration, from whichever thread: a quiet container would otherwise hold its reader for ever."""
        ...


class ExecStream(Protocol):
    """A process inside a container, over one two-way stream."""

    def read(self) -> bytes:
        """Blocks; empty at the end."""
        ...

    def write(self, data: bytes) -> None: ...

    def end_input(self) -> None:
        """No more will be written."""
        ...

    def resize(self, *, columns: int, rows: int) -> None: ...

    def exit_code(self) -> int | None:
        """None while it runs."""
        ...

    def close(self) -> None:
        """Hang up: the process gets SIGHUP where the engine leaves it running."""
        ...
