"""Which lease's endpoint a request is for, and under which path its application knows it. Pure; lets nobody in.

Three ways: the path begins with `/l/<lease>/`; the host is `<lease>.<domain>`; or neither, because an application that
believes it lives at `/` wrote a link of its own. Such a call is sent back below the prefix that the page it comes from
has (`Referer`) or, where a browser does not say, that of the page opened last (a cookie which does nothing else). A
WebSocket cannot be sent elsewhere, so it is taken to be at its place.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from api.gateway import headers
from api.gateway.wire.requests import Request

NAME = re.compile(rb"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
ROUTE = b"leasing_route"
"""The cookie that remembers which endpoint's page was opened last."""


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint, and what is asked of it. `prefix` is what was taken off; empty where the host says the lease."""

    name: str
    path: bytes
    prefix: bytes


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Ask there."""

    location: bytes
    status: int = 307


@functools.lru_cache(maxsize=1024)
def find(request: Request, domain: bytes) -> Place | Elsewhere | None:
    """None: it is for no endpoint. `domain` is empty without host mode."""
    target = request.target
    if domain and (name := _hosted(request, domain)) is not None:
        return Place(name, target, b"")
    if target.startswith(b"/l/"):
        path, mark, query = target.partition(b"?")
        name_, slash, rest = path[3:].partition(b"/")
        if not NAME.fullmatch(name_):
            return None
        if not slash:
            return Elsewhere(b"/l/" + name_ + b"/" + mark + query, 308)
        prefix = b"/l/" + name_
        if rest.startswith(b"/"):
            return None  # an application could answer '//host/…' with a redirect to that host
        return Place(name_.decode(), target[len(prefix) :], prefix)
    if (known := _left(request)) is None:
        return None
    prefix = b"/l/" + known
    if request.websocket:
        return Place(known.decode(), target, prefix)
    return Elsewhere(prefix + target)


def _hosted(request: Request, domain: bytes) -> str | None:
    host = request.found.get(b"host", b"").lower().partition(b":")[0]
    name, _, rest = host.partition(b".")
    return name.decode() if rest == domain and NAME.fullmatch(name) else None


def _left(request: Request) -> bytes | None:
    """The lease whose page an absolute link was followed from."""
    if referer := request.found.get(b"referer"):
        try:
            parts = urlsplit(referer)
        except ValueError:
            return None
        if parts.netloc != request.found.get(b"host"):
            return None  # another site's link is no page's of ours
        name = parts.path[3:].partition(b"/")[0] if parts.path.startswith(b"/l/") else b""
        if NAME.fullmatch(name):
            return name
    for said in headers.cookies(request.values(b"cookie"), ROUTE):
        if NAME.fullmatch(said):
            return said
    return None


def remembers(request: Request, place: Place) -> bytes | None:
    """The cookie to set with the answer, if this is a page that a browser opens below a prefix."""
    if not place.prefix or not request.opens_page:
        return None
    name = place.name.encode()
    if headers.cookies(request.values(b"cookie"), ROUTE)[:1] == [name]:
        return None
    return ROUTE + b"=" + name + b"; Path=/; HttpOnly; SameSite=Lax"
