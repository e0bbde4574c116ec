"""A request that was let in, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from api.gateway.authorise import Upstream
from api.gateway.grants import Target, Visitor
from api.gateway.headers import Passed
from api.gateway.hooks import Headers, Recorder
from api.gateway.routing import Place
from api.gateway.upstreams import Key, key_of
from api.gateway.wire.requests import Request

REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""Asked twice, they do what they do once."""


@dataclass(slots=True)
class Asked:
    """Who asks what of which application."""

    request: Request
    visitor: Visitor
    target: Target
    upstream: Upstream
    place: Place
    secret: str
    """With which the caller came; when it is good no longer, what runs is cut."""
    passed: Passed
    """The caller's headers that do."""
    said: bytes
    """What the gateway says of the caller, as headers on the wire."""
    person: bool
    """Whether somebody asks, rather than a page that is only open."""
    since: float
    """In the loop's time."""
    cookie: bytes | None = None
    """To be set with the answer."""
    gathered: bytes = b""
    """What of the body was read before the application was asked."""
    whole: bool = False
    """That is all of it."""
    recorder: Recorder | None = None
    marks: Headers = field(default_factory=list)

    @property
    def key(self) -> Key:
        return key_of(self.target.lease_id, self.upstream)

    @property
    def has_body(self) -> bool:
        """Whether more of the body is to come."""
        return self.request.has_body and not self.whole

    @property
    def repeatable(self) -> bool:
        return self.request.method in REPEATABLE and not self.has_body

    def head(self) -> bytes:
        """The request's head for its application."""
        request = self.request
        lines = [
            b"%b %b HTTP/1.1\r\n" % (request.method, self.place.path),
            self.passed.wire,
            self.said,
        ]
        if b"host" not in request.found:
            lines.append(b"Host: %b:%d\r\n" % (self.upstream.host.encode(), self.upstream.port))
        if self.whole:
            lines.append(b"Content-Length: %d\r\n" % len(self.gathered))
        elif request.chunked:
            lines.append(b"Transfer-Encoding: chunked\r\n")
        elif b"content-length" in request.found:
            lines.append(b"Content-Length: %d\r\n" % request.length)
        if request.websocket:
            lines.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)
