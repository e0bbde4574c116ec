"""Answers that go on: a lease's output, and what happens to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import sleep
from typing import Any

from leasing.errors import Unavailable
from leasing.sdk.transport import Transport, at, stranger

AGAIN_SECONDS, AGAIN_SECONDS_AT_MOST = 1.0, 15.0
SILENCE_SECONDS = 60.0
"""Four times as long as the api is silent at most where events are followed."""


def logs(transport: Transport, ref: str, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
    """A lease's output, a piece at a time; following goes on until it stops."""
    wanted: dict[str, Any] = {"follow": follow} | ({} if tail is None else {"tail": tail})
    with transport.stream(at("leases", ref, "logs"), params=wanted) as answer:
        yield from answer.iter_text()


def events(transport: Transport, ref: str) -> Iterator[dict[str, Any]]:
    """All that happened to a lease and all that will, until it has ended.

    Taken up again where it broke off, and for as long as it takes: the api is being restarted, or the network is away.
    Raises `Unavailable` only if the api never answered.
    """
    last, pause, answered = "", AGAIN_SECONDS, False
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        try:
            with transport.stream(
                at("leases", ref, "events"), headers=headers, silence=SILENCE_SECONDS
            ) as answer:
                pause, answered = AGAIN_SECONDS, True
                if answer.status_code == 204:
                    return
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        event = _event(transport, line.removeprefix("data: "))
                        last = str(event["id"])
                        yield event
                        if event["kind"] == "lease.ended":
                            return
        except Unavailable:
            if not answered:
                raise
        sleep(pause)
        pause = min(2 * pause, AGAIN_SECONDS_AT_MOST)


def _event(transport: Transport, text: str) -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(text)
        event["id"], event["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise stranger(transport.url) from error
    return event
