"""Following what happens to a lease over a network that breaks off, falls silent or is away for a while."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from threading import Event

import pytest

from leasing import errors
from leasing.sdk import streams
from leasing.sdk.credentials import Credentials
from leasing.sdk.transport import Transport
from tests.support.answering import answering, answering_by

Turn = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "AGAIN_SECONDS", 0.001)


class Scripted:
    """Each request is answered by the next turn, the last of them goes on; it keeps after which event each asked."""

    def __init__(self, *turns: Turn) -> None:
        self.turns = turns
        self.asked: list[str | None] = []

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.headers["Last-Event-ID"])
        self.turns[min(len(self.asked), len(self.turns)) - 1](request)


@contextmanager
def followed(script: Scripted) -> Iterator[Iterator[int]]:
    """The ids of the events that a follower is told."""
    with answering_by(script) as url, Transport(Credentials(url, "any")) as transport:
        yield (event["id"] for event in streams.events(transport, "train"))


def piece(text: str) -> bytes:
    return f"{len(text):x}\r\n{text}\r\n".encode()


def event(number: int, kind: str) -> str:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps({'id': number, 'kind': kind})}\n\n"


def begin(request: BaseHTTPRequestHandler, number: int, kind: str = "lease.queued") -> None:
    request.protocol_version = "HTTP/1.1"
    request.send_response(200)
    request.send_header("Content-Type", "text/event-stream")
    request.send_header("Connection", "close")
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    if number:
        request.wfile.write(piece(event(number, kind)))
        request.wfile.flush()


def one_and_close(request: BaseHTTPRequestHandler) -> None:
    begin(request, 1)
    request.wfile.write(b"0\r\n\r\n")


def one_and_break_off(request: BaseHTTPRequestHandler) -> None:
    begin(request, 1)
    request.wfile.write(piece(event(2, "lease.placed"))[:-30])


def away(request: BaseHTTPRequestHandler) -> None:
    request.send_error(503)


def hang_up(request: BaseHTTPRequestHandler) -> None:
    """Not a word: as a proxy whose server is being restarted."""


def the_end(request: BaseHTTPRequestHandler) -> None:
    begin(request, 2, "lease.ended")
    request.wfile.write(b"0\r\n\r\n")


def test_a_connection_that_breaks_off_within_an_event_is_taken_up_after_the_last_whole_one() -> None:
    script = Scripted(one_and_break_off, the_end)
    with followed(script) as ids:
        assert list(ids) == [1, 2]
    assert script.asked == [None, "1"]


def test_a_server_that_is_away_for_a_while_is_asked_until_it_is_back() -> None:
    script = Scripted(one_and_close, away, hang_up, away, hang_up, the_end)
    with followed(script) as ids:
        assert list(ids) == [1, 2]
    assert script.asked == [None, *["1"] * 5]


def test_a_server_that_falls_silent_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    over = Event()

    def fall_silent(request: BaseHTTPRequestHandler) -> None:
        begin(request, 0)
        over.wait(60)

    script = Scripted(one_and_close, fall_silent, the_end)
    with followed(script) as ids:
        assert next(ids) == 1
        monkeypatch.setattr(streams, "SILENCE_SECONDS", 0.05)
        assert list(ids) == [2]
        over.set()
    assert script.asked[:2] == [None, "1"]


def test_a_server_that_never_answered_is_not_waited_for() -> None:
    script = Scripted(away)
    with followed(script) as ids, pytest.raises(errors.Unavailable):
        next(ids)
    assert script.asked == [None]


def test_what_is_refused_on_coming_back_is_said() -> None:
    script = Scripted(one_and_break_off, lambda request: request.send_error(401))
    with followed(script) as ids:
        assert next(ids) == 1
        with pytest.raises(errors.NotSignedIn):
            next(ids)


def test_the_waits_for_a_server_that_is_away_grow_and_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "AGAIN_SECONDS", 1.0)
    waited: list[float] = []
    monkeypatch.setattr(streams, "sleep", waited.append)
    script = Scripted(one_and_close, *[away] * 5, one_and_close, away, the_end)
    with followed(script) as ids:
        assert list(ids) == [1, 1, 2]
    assert waited == [1, 2, 4, 8, 15, 15, 1, 2]


def test_output_that_is_silent_for_long_still_shows_that_the_server_is_gone() -> None:
    with (
        answering(200, b"hello") as url,
        Transport(Credentials(url, "any")) as transport,
        transport.stream("/leases/train/logs") as answer,
    ):
        plain = answer.extensions["network_stream"].get_extra_info("socket")
        assert plain.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
