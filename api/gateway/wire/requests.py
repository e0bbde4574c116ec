"""The head of a request, read strictly: where two readers see its end in two places, one can be made to see another."""

from __future__ import annotations

import base64
import binascii
import functools
import re

import httptools

from api.gateway.wire.message import (
    END,
    MAX_HEAD,
    MAX_HEADERS,
    Body,
    Chunked,
    Counted,
    Field,
    Malformed,
    Message,
)

LINE = re.compile(rb"[A-Z-]+ [!-~]+ HTTP/1\.([01])\r\n")
HOST = re.compile(rb"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]*)|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
TARGET = re.compile(rb"/[!-~]*")
SUSPECT = re.compile(rb"(?:^|[/;]|%2f|%5c)\.|%2e|%00|%0d|%0a|\\|#|^//", re.IGNORECASE)
"""What makes a closer look at a path worth it."""
SMALL = 4096
"""Bytes of a head that is remembered."""
REPEATED = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"authorization", b"expect", b"upgrade"}
)
"""Of these, one that came twice could be read as either."""


class Request:
    """A request's head. Values as they stood on the wire; never changed once it is read."""

    __slots__ = (
        "chunked", "connection", "fields", "found", "has_body", "head", "keep", "length", "method", "modern", "target",
        "upgrade", "websocket",
    )  # fmt: skip

    def __init__(self, head: bytes, message: Message, *, modern: bool) -> None:
        self.head = head
        self.method = head[: head.index(b" ")]
        self.target = message.target
        self.fields: list[Field] = message.fields
        self.modern = modern
        """HTTP/1.1; else 1.0, of which chunked answers are not understood."""
        self.found: dict[bytes, bytes] = {}
        """Each header's last value, by its name in small letters."""
        self.connection: frozenset[bytes] = frozenset()
        """What the header Connection names."""
        self.chunked = False
        self.length = 0
        self.has_body = False
        self.keep = modern
        """Whether the caller means to ask more on this connection."""
        self.upgrade = False
        """Another protocol is asked for."""
        self.websocket = False
        """That is a WebSocket, asked for properly."""

    def values(self, name: bytes) -> list[bytes]:
        return [value for lower, _, value in self.fields if lower == name]

    @property
    def opens_page(self) -> bool:
        """Whether a browser means to show what comes by itself."""
        shown = self.found.get(b"sec-fetch-dest", b"document") in (b"document", b"iframe")
        return shown and self.method == b"GET" and b"text/html" in self.found.get(b"accept", b"")

    def body(self) -> Body:
        """Its body, of which nothing is read yet."""
        if not self.chunked:
            return Counted(self.length)
        message = Message()
        parser = httptools.HttpRequestParser(message)
        parser.feed_data(self.head)
        return Chunked(message, parser)


def head_length(buffer: bytes) -> int:
    """Bytes of the head that the buffer begins with, 0 while it is not all there. Raises `Malformed` for a long one."""
    end = buffer.find(END, 0, MAX_HEAD)
    if end >= 0:
        return end + len(END)
    if len(buffer) >= MAX_HEAD:
        raise Malformed(f"The head of a request may have {MAX_HEAD // 1024} KiB.", 431)
    return 0


def parse(head: bytes) -> Request:
    """The request with exactly this head. Raises `Malformed`."""
    return _parse_again(head) if len(head) <= SMALL else _parse(head)


@functools.lru_cache(maxsize=1024)
def _parse_again(head: bytes) -> Request:
    """The same head comes again and again, as most programs send theirs, and reads the same each time."""
    return _parse(head)


def _parse(head: bytes) -> Request:
    line = LINE.match(head)
    if line is None:
        raise Malformed("The first line must read METHOD /path HTTP/1.1.")
    message = Message()
    parser = httptools.HttpRequestParser(message)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # what is asked for there is judged by its headers, as any
    except httptools.HttpParserError as error:
        raise Malformed(f"Not HTTP/1.1: {error}.") from error
    if not message.head_complete or message.again:
        raise Malformed("Not HTTP/1.1: the head ends where none may.")
    request = Request(head, message, modern=line[1] == b"1")
    _sort(request)
    _check_target(request.target)
    _frame(request)
    _look_for_upgrade(request)
    return request


def _sort(request: Request) -> None:
    found = request.found
    for lower, _, value in request.fields:
        if lower in found and lower in REPEATED:
            raise Malformed(f"Two headers {lower.decode('latin-1')}.")
        found[lower] = value
    if len(request.fields) > MAX_HEADERS:
        raise Malformed(f"A request may have {MAX_HEADERS} headers.", 431)
    host = found.get(b"host")
    if host is None and request.modern:
        raise Malformed("No header Host.")
    if host is not None and not HOST.fullmatch(host):
        raise Malformed("The header Host names no host.")
    if b"connection" in found:
        request.connection = frozenset(
            word.strip().lower() for value in request.values(b"connection") for word in value.split(b",")
        )
        request.keep = request.modern and b"close" not in request.connection


def _check_target(target: bytes) -> None:
    """A path that servers along the way could resolve to different places is refused, not resolved."""
    if not TARGET.fullmatch(target):
        raise Malformed("Ask for a path: /l/<lease>/….")
    path = target.partition(b"?")[0]
    if SUSPECT.search(path) is None and b"#" not in target:
        return
    plain = re.sub(rb"%2e", b".", path, flags=re.IGNORECASE)
    if re.search(rb"%00|%0d|%0a|\\", plain, re.IGNORECASE) or b"#" in target:
        raise Malformed("The path holds what no path may: NUL, a line's end, a backslash or '#'.")
    segments = re.split(rb"/|%2f|%5c", plain, flags=re.IGNORECASE)
    if any(segment.partition(b";")[0] in (b".", b"..") for segment in segments):
        raise Malformed("The path has segments '.' or '..'; write where it leads.")
    if plain.startswith(b"//"):
        raise Malformed("The path begins with '//'.")


def _frame(request: Request) -> None:
    found = request.found
    if (coding := found.get(b"transfer-encoding")) is not None:
        if coding.lower() != b"chunked" or not request.modern:
            raise Malformed("The only Transfer-Encoding is chunked, in HTTP/1.1.", 501)
        if b"content-length" in found:
            raise Malformed("Both Content-Length and Transfer-Encoding.")
        request.chunked = request.has_body = True
    elif (said := found.get(b"content-length")) is not None:
        if not said.isdigit() or len(said) > 18:
            raise Malformed("Content-Length is no number.")
        request.length = int(said)
        request.has_body = request.length > 0


def _look_for_upgrade(request: Request) -> None:
    found = request.found
    request.upgrade = b"upgrade" in request.connection and b"upgrade" in found
    if not request.upgrade:
        return
    if request.has_body:
        raise Malformed("What asks for another protocol has no body.")
    try:
        key = base64.b64decode(found.get(b"sec-websocket-key", b""), validate=True)
    except binascii.Error:
        key = b""
    request.websocket = (
        found[b"upgrade"].lower() == b"websocket"
        and request.method == b"GET"
        and request.modern
        and len(key) == 16
        and found.get(b"sec-websocket-version") == b"13"
    )
