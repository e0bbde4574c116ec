"""Answers that go on: a lease's output, and what happens to it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from leasing.sdk.transport import Transport, at, stranger

AGAIN_SECONDS = 1.0


def logs(transport: Transport, ref: str, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
    """A lease's output, a piece at a time; following goes on until it stops."""
    wanted: dict[str, Any] = {"follow": follow} | ({} if tail is None else {"tail": tail})
    with transport.stream(at("leases", ref, "logs"), params=wanted) as answer:
        yield from answer.iter_text()


def events(transport: Transport, ref: str) -> Iterator[dict[str, Any]]:
    """All that happened to a lease and all that will, until it has ended; taken up again where the api broke off."""
    last = ""
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        with transport.stream(at("leases", ref, "events"), headers=headers) as answer:
            if answer.status_code == 204:
                return
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    event = _event(transport, line.removeprefix("data: "))
                    last = str(event["id"])
                    yield event
                    if event["kind"] == "lease.ended":
                        return
        time.sleep(AGAIN_SECONDS)  # the api ended the stream, not the lease: it is being restarted


def _event(transport: Transport, text: str) -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(text)
        event["id"], event["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise stranger(transport.url) from error
    return event
