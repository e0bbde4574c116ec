"""What flows out of, and into, a container of the engine in memory."""

from __future__ import annotations

import threading
from collections import deque


class Output:
    """What a container has printed; any number of readers follow it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.chunks: list[bytes] = []
        self.ended = False

    def say(self, data: bytes) -> None:
        with self.changed:
            self.chunks.append(data)
            self.changed.notify_all()

    def set_ended(self, ended: bool) -> None:
        with self.changed:
            self.ended = ended
            self.changed.notify_all()

    def last(self, lines: int | None) -> bytes:
        """Its last lines; all of them if None."""
        with self.changed:
            whole = b"".join(self.chunks).splitlines(keepends=True)
        return b"".join(whole if lines is None else whole[max(len(whole) - lines, 0) :])


class LogStream:
    """Follows an output."""

    def __init__(self, output: Output, *, follow: bool, tail: int | None) -> None:
        self._output = output
        self._follow = follow
        self._closed = False
        self._said = output.last(tail)
        self._at = len(output.chunks)

    def __iter__(self) -> LogStream:
        return self

    def __next__(self) -> bytes:
        if self._said:
            said, self._said = self._said, b""
            return said
        output = self._output
        with output.changed:
            while self._follow and not self._closed:
                if self._at < len(output.chunks):
                    self._at += 1
                    return output.chunks[self._at - 1]
                if output.ended:
                    break
                output.changed.wait()
        raise StopIteration

    def close(self) -> None:
        with self._output.changed:
            self._closed = True
            self._output.changed.notify_all()


class ExecStream:
    """A process that gives back what it is given, as `cat` does, whatever its command."""

    def __init__(self, greeting: bytes = b"") -> None:
        self._changed = threading.Condition()
        self._held: deque[bytes] = deque([greeting] if greeting else [])
        self._code: int | None = None
        self.size: tuple[int, int] | None = None
        """Columns and rows of its terminal, as last told."""

    def read(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._held or self._code is not None)
            return self._held.popleft() if self._held else b""

    def write(self, data: bytes) -> None:
        with self._changed:
            self._held.append(data)
            self._changed.notify_all()

    def end_input(self) -> None:
        self._end(0)

    def resize(self, *, columns: int, rows: int) -> None:
        self.size = (columns, rows)

    def exit_code(self) -> int | None:
        with self._changed:
            return self._code

    def close(self) -> None:
        self._end(129)

    def _end(self, code: int) -> None:
        with self._changed:
            self._code = code if self._code is None else self._code
            self._changed.notify_all()
