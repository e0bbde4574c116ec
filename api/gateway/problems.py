"""What the gateway itself answers instead of an application: problem+json with a code, a sentence and a way out."""

from __future__ import annotations

import json
from dataclasses import dataclass


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

    def headers(self) -> list[tuple[bytes, bytes]]:
        found = [(b"Content-Type", b"application/problem+json"), (b"Cache-Control", b"no-store")]
        if self.status == 401:
            found.append((b"WWW-Authenticate", b"Bearer"))
        if self.retry is not None:
            found.append((b"Retry-After", b"%d" % self.retry))
        return found
