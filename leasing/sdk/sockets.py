"""WebSockets to the api."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from urllib.parse import urlencode

from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from leasing.errors import Invalid, LeasingError, Unavailable, by_code
from leasing.sdk.transport import Transport, stranger

OPEN_SECONDS = 30.0
"""For what is started in a container on a machine that is busy."""


def opened(
    transport: Transport, path: str, query: Sequence[tuple[str, str]], *, unfit: str
) -> ClientConnection:
    """One that the api took; what it refuses, it says in the first frame, see `refusal`.

    Raises `Unavailable`, and `Invalid` with `unfit` for a query that makes no sense to it.
    """
    try:
        return connect(
            f"ws{transport.url.removeprefix('http')}/api/v1{path}?{urlencode(query)}",
            additional_headers={"Authorization": f"Bearer {transport.token}"},
            ssl=transport.verify if isinstance(transport.verify, ssl.SSLContext) else None,
            max_size=None,
            compression=None,
            open_timeout=OPEN_SECONDS,
        )
    except InvalidStatus as error:
        raise _refused(transport, error, unfit) from error
    except (OSError, InvalidHandshake) as error:
        raise Unavailable(
            f"{transport.url} does not answer: {error}.", hint="Is it running? On the server: make run"
        ) from error


def refusal(said: dict[str, str | None]) -> LeasingError | None:
    """What a text frame refuses, as the class it was on the server; None for any other frame."""
    code = said.get("error")
    return by_code().get(code, LeasingError)(said.get("detail"), hint=said.get("hint")) if code else None


def _refused(transport: Transport, error: InvalidStatus, unfit: str) -> LeasingError:
    """The api refuses a handshake only for what the address says; a proxy before it may for anything."""
    status = error.response.status_code
    if status == 403:
        return Invalid(unfit)
    if status >= 500:
        return Unavailable(
            f"{transport.url} answered {status}.", hint="Is it running? On the server: make run"
        )
    return stranger(transport.url)
