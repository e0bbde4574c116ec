"""The head of an application's answer, and how its body ends."""

from __future__ import annotations

import base64
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

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Response:
    """An answer without its body."""

    __slots__ = ("body", "fields", "keep", "length", "reason", "status")

    def __init__(self, status: int, reason: bytes, fields: list[Field], body: Body, *, keep: bool) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.body = body
        self.keep = keep
        """Whether the connection is good for another call after it."""

    @property
    def interim(self) -> bool:
        return self.status < 200 and self.status != 101

    def value(self, name: bytes) -> bytes | None:
        return next((value for lower, _, value in self.fields if lower == name), None)


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
    line = head[: head.index(b"\r\n")]
    lengths = {value for lower, _, value in message.fields if lower == b"content-length"}
    codings = [value.lower() for lower, _, value in message.fields if lower == b"transfer-encoding"]
    if len(lengths) > 1 or (lengths and codings) or (codings and codings != [b"chunked"]):
        raise Malformed("its length is said in two ways")
    keep = parser.should_keep_alive()
    body: Body
    if method == b"HEAD" or status in (204, 304) or status < 200:
        body = Counted(0)
    elif codings:
        body = Chunked(message, parser)
    elif lengths:
        body = Counted(int(lengths.pop()))
    else:
        body, keep = UntilClosed(), False
    return Response(status, line[13:], message.fields, body, keep=keep)


def accepts(key: bytes) -> bytes:
    """What a WebSocket server answers to that `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
