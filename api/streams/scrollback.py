"""The last of what a terminal printed, for who looks again."""

from __future__ import annotations

from collections import deque

MOST_BYTES = 256 * 1024
FULL_SCREEN, BACK = b"\x1b[?1049h", b"\x1b[?1049l"
"""How a program takes the whole screen for itself, and gives it back (xterm's control sequences)."""


class Scrollback:
    """Positions count every byte that ever came; what is older than the last `most` is gone."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._pieces: deque[bytes] = deque()
        self._lost_screen = False
        self.begin = self.end = 0

    def add(self, data: bytes) -> None:
        """Old pieces go whole, so that a page begins where a write of the program began."""
        self._pieces.append(data)
        self.end += len(data)
        while self.end - self.begin > self._most and len(self._pieces) > 1:
            gone = self._pieces.popleft()
            self.begin += len(gone)
            self._lost_screen = _full_screen(gone, self._lost_screen)

    def since(self, position: int) -> bytes:
        """What came from there on; from the beginning of what is left, if that is later."""
        found, at = [], self.begin
        for piece in self._pieces:
            if at + len(piece) > position:
                found.append(piece[max(0, position - at) :])
            at += len(piece)
        return b"".join(found)

    def whole(self) -> bytes:
        """All that is left, for an empty terminal. If a program had taken the screen before, it takes it again."""
        return (FULL_SCREEN if self._lost_screen else b"") + self.since(self.begin)

    @property
    def full_screen(self) -> bool:
        """Whether a program has the whole screen, and paints it."""
        return _full_screen(self.since(self.begin), self._lost_screen)


def _full_screen(data: bytes, before: bool) -> bool:
    taken, given = data.rfind(FULL_SCREEN), data.rfind(BACK)
    return before if taken == given else taken > given
