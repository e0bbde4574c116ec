"""The head of an application's answer, and how its body ends."""

from __future__ import annotations

import base64
import functools
import hashlib

import httptools

from api.gateway.wire.message import (
    END,
    MAX_HEAD,
    Body,
    Chunked,
    Counted,
    Field,
    Malformed,
    Message,
    UntilClosed,
)

SMALL = 4096
"""Bytes of a head that is remembered."""
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Response:
    """An answer's head. Never changed once it is read."""

    __slots__ = ("_chunked", "_head", "bare", "fields", "keep", "length", "reason", "status")

    def __init__(self, head: bytes, status: int, fields: list[Field], *, bare: bool, keep: bool) -> None:
        self._head = head
        self.status = status
        self.reason = head[13 : head.index(b"\r\n")]
        self.fields = fields
        self.bare = bare
        """No body follows, whatever the head says."""
        self.keep = keep
        """Whether the connection is good for another call after it."""
        self.length: bytes | None = None
        """As it says it."""
        self._chunked = False
        self._frame()

    def _frame(self) -> None:
        codings = 0
        for lower, _, value in self.fields:
            if lower == b"content-length":
                if self.length is not None and value != self.length:
                    raise Malformed("its length is said in two ways")
                self.length = value
            elif lower == b"transfer-encoding":
                codings += 1
                self._chunked = value.lower() == b"chunked"
        if codings and (self.length is not None or codings > 1 or not self._chunked):
            raise Malformed("its length is said in two ways")
        if not self.bare and self.length is None and not self._chunked:
            self.keep = False

    @property
    def size(self) -> int:
        """Bytes of the head on the wire."""
        return len(self._head)

    @property
    def interim(self) -> bool:
        return self.status < 200 and self.status != 101

    def value(self, name: bytes) -> bytes | None:
        return next((value for lower, _, value in self.fields if lower == name), None)

    def body(self) -> Body:
        """Its body, of which nothing is read yet."""
        if self.bare:
            return Counted(0)
        if self.length is not None:
            return Counted(int(self.length))
        if not self._chunked:
            return UntilClosed()
        message = Message()
        parser = httptools.HttpResponseParser(message)
        parser.feed_data(self._head)
        return Chunked(message, parser)

    @property
    def counted(self) -> bool:
        """Whether its end is known from its head."""
        return self.bare or self.length is not None


def head_length(buffer: bytes) -> int:
    """Bytes of the head that the buffer begins with, 0 while it is not all there. Raises `Malformed` for a long one."""
    end = buffer.find(END, 0, 2 * MAX_HEAD)
    if end >= 0:
        return end + len(END)
    if len(buffer) >= 2 * MAX_HEAD:
        raise Malformed(f"its head is longer than {MAX_HEAD // 512} KiB")
    return 0


def parse(head: bytes, *, method: bytes) -> Response:
    """The answer with exactly this head to a request of that method. Raises `Malformed`."""
    to_head = method == b"HEAD"
    return _parse_again(head, to_head) if len(head) <= SMALL else _parse(head, to_head)


@functools.lru_cache(maxsize=1024)
def _parse_again(head: bytes, to_head: bool) -> Response:
    """Within a second most answers of an application have the same head, and it reads the same each time."""
    return _parse(head, to_head)


def _parse(head: bytes, to_head: bool) -> Response:
    message = Message()
    parser = httptools.HttpResponseParser(message)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise Malformed(f"it is not HTTP/1.1 ({error})") from error
    if not message.head_complete or not head.startswith(b"HTTP/1."):
        raise Malformed("it is not HTTP/1.1")
    status = parser.get_status_code()
    if not 100 <= status <= 599:
        raise Malformed(f"its status is {status}")
    bare = to_head or status in (204, 304) or status < 200
    return Response(head, status, message.fields, bare=bare, keep=parser.should_keep_alive())


def accepts(key: bytes) -> bytes:
    """What a WebSocket server answers to that `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
