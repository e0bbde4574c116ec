"""Following a WebSocket's frames without holding them up: how long each message is, and what a short one says."""

from __future__ import annotations

SHORT = 256
"""Bytes. What a longer message says does not matter."""
AT_ONCE = 64
"""So many messages are told of one piece of data; what comes faster than that is told of as one long one."""


class Frames:
    """Fed what a client sends, in any pieces; tells of each message that ends in it. Control frames are none."""

    __slots__ = ("_from", "_head", "_kept", "_last", "_left", "_mask", "_opcode", "_size", "lost")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._mask = b""
        self._opcode = -1
        self._kept = bytearray()
        self._from = 0
        self._size = 0
        self._last = False
        self.lost = False
        """It is no longer WebSocket as it should be: nothing more can be told of it."""

    def feed(self, data: bytes) -> list[bytes | None]:
        """Each message that ended: what it says, None for a long one."""
        told: list[bytes | None] = []
        if self.lost:
            return [None]
        at = 0
        if self._head:
            data, self._head = self._head + data, b""
        size = len(data)
        while at < size:
            if self._left:
                taken = min(self._left, size - at)
                self._keep(data, at, taken)
                at += taken
                self._left -= taken
                if self._left:
                    break
                self._ended(told)
                continue
            begun = self._begin(data, at)
            if begun == 0:
                self._head = data[at:]
                break
            if begun < 0:
                self.lost = True
                return [*told, None]
            at += begun
            if not self._left:
                self._ended(told)
        if len(told) > AT_ONCE:
            return [None]
        return told

    def _begin(self, data: bytes, at: int) -> int:
        """Read a frame's head; its bytes, 0 if it is not all there, -1 if it is none of a client's."""
        size = len(data) - at
        if size < 2:
            return 0
        first, second = data[at], data[at + 1]
        opcode, length = first & 15, second & 127
        if first & 0x70 or not second & 0x80 or opcode not in (0, 1, 2, 8, 9, 10):
            return -1
        long = 0 if length < 126 else 2 if length == 126 else 8
        if size < 6 + long:
            return 0
        if long:
            length = int.from_bytes(data[at + 2 : at + 2 + long], "big")
        if opcode >= 8 and (length > 125 or not first & 0x80):
            return -1
        self._mask = data[at + 2 + long : at + 6 + long]
        self._left = length
        self._opcode = opcode
        self._from = len(self._kept)
        self._last = bool(first & 0x80)
        return 6 + long

    def _keep(self, data: bytes, at: int, taken: int) -> None:
        if self._opcode >= 8:
            return
        self._size += taken
        if self._size <= SHORT:
            self._kept += data[at : at + taken]
            if self._left == taken:  # each frame has a mask of its own, which begins anew with it
                mask, begin = self._mask, self._from
                for index in range(begin, len(self._kept)):
                    self._kept[index] ^= mask[(index - begin) % 4]

    def _ended(self, told: list[bytes | None]) -> None:
        if self._opcode >= 8 or not self._last:
            return
        told.append(bytes(self._kept) if self._size <= SHORT else None)
        self._kept.clear()
        self._size = 0
