"""Which headers pass, which way, and what is added. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from api.gateway.wire.message import Field
from api.gateway.wire.requests import Request
from api.gateway.wire.responses import Response

HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings",
    }
)  # fmt: skip
OURS = frozenset(
    {
        b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix",
        b"x-forwarded-port", b"x-forwarded-server", b"x-real-ip", b"x-leasing-user",
    }
)  # fmt: skip
"""What the gateway says of a caller; a caller's own are dropped."""

ORIGIN_WIDE = frozenset(
    {
        b"alt-svc",
        b"clear-site-data",
        b"public-key-pins",
        b"service-worker-allowed",
        b"strict-transport-security",
    }
)
"""What a browser applies to all of an origin or host, on which others' endpoints and the pages live too."""

FRAMED = HOP_BY_HOP | {b"content-length"}
NOT_PASSED = FRAMED | OURS | {b"expect"}
NOT_TRAILED = NOT_PASSED | {
    b"authorization",
    b"cookie",
    b"set-cookie",
    b"host",
    b"content-encoding",
    b"content-type",
}
"""What would mean something else at the end of a message than it said at its beginning."""

COOKIE_PREFIX = b"leasing_"
EXTENSIONS = b"sec-websocket-extensions"
"""Not asked for: compressed, what a message says could not be told from another."""


class Passed(NamedTuple):
    """Headers that pass, and the same as they stand on the wire."""

    fields: tuple[Field, ...]
    wire: bytes


@functools.lru_cache(maxsize=512)
def to_application(request: Request, *, own_token: bool) -> Passed:
    """What passes of the caller's: nothing that belongs to the connection or stands for them on the platform.

    `own_token` says whether the Authorization header carries the platform's token; another one is the application's.
    """
    named = request.connection
    passed = []
    for one in request.fields:
        lower = one[0]
        if lower in NOT_PASSED or lower == EXTENSIONS or (lower in named and lower != b"host"):
            continue
        if b"_" in lower and lower.replace(b"_", b"-") in NOT_PASSED:
            continue  # many a server reads X_Leasing_User as X-Leasing-User
        if lower == b"authorization" and own_token:
            continue
        if lower == b"cookie":
            if kept := _without_ours(one[2]):
                passed.append((lower, one[1], kept))
            continue
        passed.append(one)
    return Passed(tuple(passed), written(passed))


def said_of(*, client: bytes, scheme: bytes, host: bytes, prefix: bytes, user: bytes) -> bytes:
    """The headers by which an application knows its caller, as they stand on the wire."""
    return (
        b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n"
        b"X-Forwarded-Prefix: %b\r\nX-Leasing-User: %b\r\n" % (client, scheme, host, prefix, user)
    )


@functools.lru_cache(maxsize=512)
def answered(response: Response, prefix: bytes, upstream: bytes) -> bytes:
    """An answer's first line and the headers of it that pass to the caller, on the wire."""
    line = b"HTTP/1.1 %d %b\r\n" % (response.status, response.reason)
    return line + written(to_client(response.fields, prefix=prefix, upstream=upstream))


def to_client(fields: Iterable[Field], *, prefix: bytes, upstream: bytes) -> list[Field]:
    """For the caller: redirects and cookies of the application stay below the endpoint's own prefix."""
    passed: list[Field] = []
    named: frozenset[bytes] = frozenset()
    for one in fields:
        lower = one[0]
        if lower == b"connection":
            named |= {word.strip().lower() for word in one[2].split(b",")}
        if lower in FRAMED or lower in ORIGIN_WIDE:
            continue
        if lower == b"location":
            passed.append((lower, one[1], _location(one[2], prefix, upstream)))
        elif lower == b"set-cookie":
            if cookie := _cookie(one[2], prefix):
                passed.append((lower, one[1], cookie))
        else:
            passed.append(one)
    if named - {b"close", b"keep-alive", b"upgrade"}:
        return [one for one in passed if one[0] not in named]
    return passed


def trailed(fields: Iterable[Field]) -> list[Field]:
    """Trailers that pass."""
    return [one for one in fields if one[0] not in NOT_TRAILED and b"_" not in one[0]]


def written(fields: Iterable[Field]) -> bytes:
    return b"".join([b"%b: %b\r\n" % (name, value) for _, name, value in fields])


def cookies(values: Iterable[bytes], name: bytes) -> list[bytes]:
    """The values of one of our cookies. There may be several, by path, and anybody's: none is believed unseen."""
    found = []
    for value in values:
        for part in value.split(b";"):
            key, mark, said = part.strip().partition(b"=")
            if mark and key == name:
                found.append(said.strip(b'"'))
    return found


def _without_ours(cookie: bytes) -> bytes:
    if COOKIE_PREFIX not in cookie:
        return cookie
    parts = (part.strip() for part in cookie.split(b";"))
    return b"; ".join(part for part in parts if part and not part.startswith(COOKIE_PREFIX))


def _location(location: bytes, prefix: bytes, upstream: bytes) -> bytes:
    """An address of the application's own is given the prefix; one elsewhere is left alone."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return location
    own = not parts.netloc or parts.netloc == upstream
    if not own or not parts.path.startswith(b"/") or (prefix and parts.path.startswith(prefix + b"/")):
        return location
    return (
        prefix
        + parts.path
        + (b"?" + parts.query if parts.query else b"")
        + (b"#" + parts.fragment if parts.fragment else b"")
    )


def _cookie(value: bytes, prefix: bytes) -> bytes | None:
    """The cookie confined to the prefix and to this host; None for one that pretends to be the platform's."""
    first, *attributes = (part.strip() for part in value.split(b";"))
    if first.lower().startswith(COOKIE_PREFIX):
        return None
    path, kept = b"/", []
    for one in attributes:
        name, _, said = one.partition(b"=")
        match name.strip().lower():
            case b"path":
                path = said.strip()  # of several a browser takes the last
            case b"domain":
                pass
            case _:
                kept.append(one)
    if prefix and not path.startswith(prefix + b"/"):
        path = prefix + (path if path.startswith(b"/") else b"/")
    return b"; ".join([first, b"Path=" + (path or b"/"), *kept])
