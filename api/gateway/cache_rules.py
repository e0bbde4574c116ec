"""What may be answered from a cache, and what may be kept for it. Pure; the cache is a shared one as RFC 9111 means it.

A lease whose endpoint was told to cache says with that: an equal call has an equal answer, for so long. So POST counts,
which is what inference is asked by; forms do not. What the application says of one answer goes before that, and in
doubt nothing is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum

from api.gateway.hooks import Call, Headers


class Use(Enum):
    """What the cache is to a call."""

    LOOK = "look"
    """It may be answered by it, and its answer may be kept."""
    RENEW = "renew"
    """The caller wants a fresh answer; that may be kept."""
    CHANGE = "change"
    """The call changes something: what was kept of the lease is forgotten."""


ASKS = frozenset({"GET", "HEAD", "POST"})
CHANGES = frozenset({"PUT", "PATCH", "DELETE"})
FORMS = (b"application/x-www-form-urlencoded", b"multipart/form-data")
"""What a page sends to have something done."""
NOT_FOR_US = frozenset(
    {
        b"authorization", b"cookie", b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since",
        b"if-unmodified-since", b"upgrade", b"trailer",
    }
)  # fmt: skip
"""A call with one of them is the application's alone: it is about one person, or about what the caller has already."""
NOISE = frozenset(
    {
        b"user-agent", b"referer", b"date", b"priority", b"dnt", b"save-data", b"connection", b"content-length",
        b"transfer-encoding", b"expect", b"te", b"cache-control", b"pragma", b"x-request-id", b"x-correlation-id",
        b"traceparent", b"tracestate", b"baggage", b"upgrade-insecure-requests",
    }
)  # fmt: skip
"""What may differ between equal calls. Any other header makes another call, known or not."""
NOISY = (b"sec-fetch-", b"sec-ch-", b"x-b3-")
ADDED = (b"x-forwarded-", b"x-real-ip", b"forwarded")
"""What the gateway says of a caller besides; an answer that varies with that is not kept."""
USER = b"x-leasing-user"
"""An answer that varies with it is one user's own."""
DROPPED = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"transfer-encoding", b"upgrade",
        b"content-length", b"age", b"x-leasing-cache",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Keys:
    """Under which a call's answer is kept: one that anybody may have, and one that is its user's own."""

    shared: bytes
    own: bytes

    def after(self, changes: int) -> Keys:
        """The same once something of the lease was changed so often by calls."""
        count = changes.to_bytes(8, "big")
        return Keys(hashlib.sha256(self.shared + count).digest(), hashlib.sha256(self.own + count).digest())


@dataclass(frozen=True)
class Keep:
    """How an answer may be kept."""

    seconds: float
    own: bool
    """For its user only."""


def use(call: Call) -> Use | None:
    """None: the cache has nothing to do with it."""
    if call.method in CHANGES:
        return Use.CHANGE
    if call.method not in ASKS:
        return None
    if call.method == "POST":
        kind = b"".join(values(call.headers, b"content-type")).strip().lower()
        if kind.startswith(FORMS):
            return Use.CHANGE
    if any(name.lower() in NOT_FOR_US for name, _ in call.headers):
        return None
    said = directives(call.headers)
    if "no-store" in said:
        return None
    fresh = "no-cache" in said or said.get("max-age") == "0" or b"no-cache" in values(call.headers, b"pragma")
    return Use.RENEW if fresh else Use.LOOK


def keys(call: Call, body: bytes) -> Keys:
    """Equal for equal calls. What a GET was told is good for a HEAD; with another time to keep them all begins anew."""
    digest = hashlib.sha256()
    for part in _parts(call, body):
        digest.update(len(part).to_bytes(8, "big"))  # so that no two calls come to the same bytes
        digest.update(part)
    own = digest.copy()
    own.update(call.visitor.user_id.bytes)
    return Keys(digest.digest(), own.digest())


def _parts(call: Call, body: bytes) -> Iterator[bytes]:
    target = call.target
    yield target.lease_id.bytes
    method = "GET" if call.method == "HEAD" else call.method
    yield f"{target.generation} {target.endpoint.cache_seconds} {method} {call.path}".encode()
    for name, value in sorted((name.lower(), value) for name, value in call.headers):
        if name not in NOISE and not name.startswith(NOISY):
            yield name
            yield value
    yield b""
    yield body


def keep(status: int, headers: Headers, *, most: float, now: float) -> Keep | None:
    """Whether the application's answer may be kept, for `most` seconds at most. `now` is the time of day."""
    said = directives(headers)
    if status != 200 or "no-store" in said or "no-cache" in said:
        return None
    named = {name.lower() for name, _ in headers}
    if named & {b"set-cookie", b"content-range", b"trailer", b"www-authenticate"}:
        return None
    if b"".join(values(headers, b"content-type")).strip().lower().startswith(b"text/event-stream"):
        return None
    varies = {one.strip().lower() for value in values(headers, b"vary") for one in value.split(b",")} - {b""}
    if b"*" in varies or any(one in NOISE or one.startswith(NOISY + ADDED) for one in varies):
        return None
    lifetime = _lifetime(said, headers, most, now)
    return Keep(lifetime, own="private" in said or USER in varies) if lifetime > 0 else None


def _lifetime(said: dict[str, str], headers: Headers, most: float, now: float) -> float:
    for name in ("s-maxage", "max-age"):
        if name in said:
            age = b"".join(values(headers, b"age"))
            return min(most, _seconds(said[name]) - (_seconds(age.decode("latin-1")) if age else 0))
    for value in values(headers, b"expires"):
        try:
            return min(most, parsedate_to_datetime(value.decode("latin-1")).timestamp() - now)
        except ValueError:
            return 0
    return most


def _seconds(text: str) -> float:
    """0 for what is no number: then it is not fresh."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0


def kept_headers(headers: Headers) -> Headers:
    """Of an answer, what is told again with it."""
    named = {one.strip().lower() for value in values(headers, b"connection") for one in value.split(b",")}
    return [(name, value) for name, value in headers if name.lower() not in DROPPED | named]


def values(headers: Headers, wanted: bytes) -> list[bytes]:
    """Of the header of that name, written small."""
    return [value for name, value in headers if name.lower() == wanted]


def directives(headers: Headers) -> dict[str, str]:
    """What Cache-Control says."""
    found = {}
    for value in values(headers, b"cache-control"):
        for one in value.decode("latin-1").split(","):
            name, _, argument = one.strip().partition("=")
            found[name.strip().lower()] = argument.strip().strip('"')
    return found
