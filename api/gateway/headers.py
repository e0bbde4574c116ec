"""Which headers pass, which way, and what is added. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from multidict import CIMultiDict, CIMultiDictProxy

HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
OURS = frozenset(
    {
        "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix",
        "x-forwarded-port", "x-real-ip", "x-leasing-user",
    }
)  # fmt: skip
"""What the gateway says of a caller; a caller's own are dropped."""

WEBSOCKET = frozenset(
    {"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "sec-websocket-accept"}
)
COOKIE_PREFIX = "leasing_"

Headers = CIMultiDict[str] | CIMultiDictProxy[str]


def to_upstream(
    headers: Headers, *, client: str, scheme: str, prefix: str, user: str, own_token: bool
) -> CIMultiDict[str]:
    """For the application: without hop-by-hop headers, without anything that stands for the caller on the platform.

    `own_token` says whether the Authorization header carries the platform's token; another one is the application's.
    """
    named = _named_by_connection(headers)
    passed: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lower = name.lower()
        if lower in HOP_BY_HOP | OURS | named or lower == "content-length":
            continue
        if lower == "authorization" and own_token:
            continue
        if lower == "cookie":
            if kept := _without_ours(value):
                passed.add(name, kept)
            continue
        passed.add(name, value)
    passed["X-Forwarded-For"] = client
    passed["X-Forwarded-Proto"] = scheme
    passed["X-Forwarded-Host"] = headers.get("Host", "")
    passed["X-Forwarded-Prefix"] = prefix
    passed["X-Leasing-User"] = user
    return passed


def to_client(headers: Headers, *, prefix: str, upstream: str) -> CIMultiDict[str]:
    """For the caller: redirects and cookies of the application stay below the endpoint's own prefix."""
    named = _named_by_connection(headers)
    passed: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lower = name.lower()
        if lower in HOP_BY_HOP | named:
            continue
        if lower == "location":
            passed.add(name, _location(value, prefix, upstream))
        elif lower == "set-cookie":
            if cookie := _cookie(value, prefix):
                passed.add(name, cookie)
        else:
            passed.add(name, value)
    return passed


def _named_by_connection(headers: Headers) -> frozenset[str]:
    return frozenset(
        part.strip().lower()
        for value in headers.getall("Connection", ())
        for part in value.split(",")
        if part.strip()
    )


def _without_ours(cookie: str) -> str:
    parts = (part.strip() for part in cookie.split(";"))
    return "; ".join(part for part in parts if part and not part.startswith(COOKIE_PREFIX))


def _location(location: str, prefix: str, upstream: str) -> str:
    """An address of the application's own is given the prefix; one elsewhere is left alone."""
    parts = urlsplit(location)
    own = not parts.netloc or parts.netloc == upstream
    if not own or not parts.path.startswith("/") or parts.path.startswith(f"{prefix}/"):
        return location
    return (
        prefix
        + parts.path
        + (f"?{parts.query}" if parts.query else "")
        + (f"#{parts.fragment}" if parts.fragment else "")
    )


def _cookie(value: str, prefix: str) -> str | None:
    """The cookie confined to the prefix; None for one that pretends to be the platform's."""
    first, *attributes = (part.strip() for part in value.split(";"))
    if first.startswith(COOKIE_PREFIX):
        return None
    kept: list[str] = [one for one in attributes if not one.lower().startswith(("path=", "domain="))]
    path = next((one[5:] for one in attributes if one.lower().startswith("path=")), "/")
    if not path.startswith(f"{prefix}/"):
        path = prefix + (path if path.startswith("/") else "/")
    return "; ".join([first, f"Path={path}", *kept])


def cookie_values(values: Iterable[str], name: str) -> str | None:
    """The value of one of our cookies."""
    for value in values:
        try:
            jar = SimpleCookie(value)
        except CookieError:
            continue
        if name in jar:
            return jar[name].value
    return None


def size(found: Mapping[str, str]) -> int:
    """Bytes of headers on the wire, about."""
    return sum(len(name) + len(value) + 4 for name, value in found.items())
