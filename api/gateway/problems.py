"""What the gateway itself answers instead of an application: problem+json with a code, a sentence and a way out."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass

NOT_LISTENING = (
    "Lease {name} runs, and nothing listens on port {port} yet; it started {age} s ago. What it does meanwhile: lease "
    "logs {name}. If the application is up, it may listen on the 127.0.0.1 of the container only: let it bind "
    "0.0.0.0:{port}."
)
"""Without an apostrophe, for a proxy's configuration quotes it."""
LISTEN_RETRY = 5
"""Seconds. A model is loaded in some dozens."""


@dataclass(frozen=True)
class Problem:
    """An answer of the gateway's own. `retry`: seconds after which it is worth asking again."""

    status: int
    code: str
    detail: str
    retry: int | None = None
    close: bool = False
    """Nothing more is read from this connection: what follows cannot be told apart, or is not wanted."""

    def body(self) -> bytes:
        return json.dumps(
            {
                "type": f"urn:leasing:{self.code}",
                "title": self.code,
                "status": self.status,
                "code": self.code,
                "detail": self.detail,
            }
        ).encode()

    def page(self) -> bytes:
        """The same for who opened it in a browser, which asks again by itself."""
        again = f'<meta http-equiv="refresh" content="{self.retry}">'
        return f"<!doctype html>{again}<title>{self.code}</title><p>{html.escape(self.detail)}</p>".encode()

    def headers(self, *, page: bool = False) -> list[tuple[bytes, bytes]]:
        """`page`: that is sent for its body."""
        kind = b"text/html; charset=utf-8" if page else b"application/problem+json"
        found = [(b"Content-Type", kind), (b"Cache-Control", b"no-store")]
        if self.status == 401:
            found.append((b"WWW-Authenticate", b"Bearer"))
        if self.retry is not None:
            found.append((b"Retry-After", b"%d" % self.retry))
        return found


def not_listening(name: str, port: int, age: float) -> Problem:
    """Of a lease whose container started `age` seconds ago."""
    said = NOT_LISTENING.format(name=name, port=port, age=max(0, int(age)))
    return Problem(503, "not_listening", said, retry=LISTEN_RETRY)
