"""One message as llhttp reads it, and its body without its framing. What can be read in two ways is malformed."""

from __future__ import annotations

from typing import Protocol

import httptools

MAX_HEAD = 32 * 1024
"""Bytes of a request's or an answer's head; and of what stands between two pieces of a chunked body."""
MAX_HEADERS = 200
END = b"\r\n\r\n"

Field = tuple[bytes, bytes, bytes]
"""A header: its name in small letters, its name as written, its value."""


class Malformed(Exception):
    """The bytes are no message, or one that others could read differently. Says what is wrong with them."""

    def __init__(self, words: str, status: int = 400) -> None:
        super().__init__(words)
        self.status = status


class Message:
    """What llhttp calls while it reads. `fields` until the head is complete; then `trailers`."""

    __slots__ = ("again", "complete", "fields", "head_complete", "parts", "target", "trailers")

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[Field] = []
        self.trailers: list[Field] = []
        self.parts: list[bytes] = []
        self.head_complete = False
        self.complete = False
        self.again = False
        """Another message has begun in the same bytes."""

    def on_message_begin(self) -> None:
        self.again = self.complete

    def on_url(self, url: bytes) -> None:
        self.target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_complete:
            self.fields.append((name.lower(), name, value))
        elif not self.complete:
            self.trailers.append((name.lower(), name, value))

    def on_headers_complete(self) -> None:
        self.head_complete = True

    def on_body(self, body: bytes) -> None:
        if not self.again:
            self.parts.append(body)

    def on_message_complete(self) -> None:
        self.complete = True


class Body(Protocol):
    """The rest of a message. `done` once it has ended; `excess` if more came than belongs to it and is lost."""

    done: bool
    excess: bool
    trailers: list[Field]

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What of it is content, and what no longer belongs to it. Raises `Malformed`."""


class Counted:
    """Content-Length."""

    __slots__ = ("done", "excess", "left", "trailers")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0
        self.excess = False
        self.trailers: list[Field] = []

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        size = len(data)
        if size < self.left:
            self.left -= size
            return data, b""
        left, self.left, self.done = self.left, 0, True
        return (data, b"") if size == left else (data[:left], data[left:])


class Chunked:
    """Transfer-Encoding: chunked, read by the parser that read the head."""

    __slots__ = ("_message", "_parser", "_quiet", "done", "excess", "trailers")

    def __init__(
        self, message: Message, parser: httptools.HttpRequestParser | httptools.HttpResponseParser
    ) -> None:
        self._message = message
        self._parser = parser
        self._quiet = 0
        self.done = message.complete
        self.excess = False
        self.trailers = message.trailers

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        message = self._message
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # what comes behind may be broken, or ask for another protocol: of neither is anything read here
            if not message.complete:
                raise Malformed(f"The body is not chunked as it says: {error}.") from error
            self.excess = True
        self.done = message.complete
        self.excess |= message.again
        content = b"".join(message.parts)
        message.parts.clear()
        # sizes, extensions and trailers carry no content: a bound on what comes between two pieces of it
        self._quiet = 0 if content or self.done else self._quiet + len(data)
        if self._quiet > MAX_HEAD or len(self.trailers) > MAX_HEADERS:
            raise Malformed("Too much stands between the pieces of the body.", 431)
        return content, b""


class UntilClosed:
    """An answer of which only the end of its connection says that it is over."""

    __slots__ = ("done", "excess", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.excess = False
        self.trailers: list[Field] = []

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""


def chunk(data: bytes) -> bytes:
    """`data`, of which there is some, as a chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)
