"""The built-in plane and many requests in one go: who takes no answers gets no more, and who sent much is read on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import BinaryIO
from uuid import uuid4

import pytest

from api.gateway import cache as cached
from api.gateway.callers import AHEAD, HIGH_WATER
from api.gateway.traffic import Counters
from leasing.settings.gateway import GatewaySettings
from tests.support.planes import TOKEN, Open, head, opened, rest, scripted, status
from tests.support.stack import free_port, until

AUTH = f"Host: gate\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
ANSWERS, SIZE = 200, 200_000


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\n".encode() + AUTH + b"\r\n"


def next_answer(reader: BinaryIO) -> tuple[int, bytes]:
    """Its status and body; fails when it is not whole."""
    line, length = reader.readline(), 0
    assert line.startswith(b"HTTP/1.1 "), line
    while (field := reader.readline().lower()).strip():
        if field.startswith(b"content-length:"):
            length = int(field.partition(b":")[2])
    body = reader.read(length)
    assert len(body) == length
    return int(line.split(b" ")[1]), body


def numbered(number: int) -> bytes:
    return b"%08d" % number * (SIZE // 8)


@pytest.mark.parametrize("ends", [False, True], ids=["says-more", "says-no-more"])
def test_who_takes_no_answers_has_no_more_made_for_it_and_loses_none(*, ends: bool) -> None:
    seen: list[int] = []

    def large(plain: socket.socket) -> None:
        while asked := head(plain):
            number = int(asked.split(b" ")[1][1:])
            seen.append(number)
            plain.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + numbered(number))

    with (
        scripted(large) as application,
        opened(application.port, keep_seconds=1) as gate,
        ExitStack() as open_,
    ):
        plain = open_.enter_context(gate.connect())
        plain.sendall(b"".join(get(f"/l/app/{number}") for number in range(ANSWERS)))
        until(lambda: len(seen) > 2, every=0.01, what="the first answers")
        with (
            gate.connect() as other
        ):  # served meanwhile, and let go once it has been idle for as long as one may
            other.sendall(get("/l/app/1000"))
            assert len(rest(other)) > SIZE
        assert len(seen) < ANSWERS // 2, "answers were made that nobody takes"
        seen.remove(1000)
        if ends:
            plain.shutdown(socket.SHUT_WR)
            assert status(gate.ask("GET /nowhere")) == 404, "which it hears after that end"
        reader = open_.enter_context(plain.makefile("rb"))
        for number in range(ANSWERS):
            assert next_answer(reader) == (200, numbered(number)), number
        assert seen == list(range(ANSWERS))


@contextmanager
def held_up(gate: Open, goes_on: threading.Event, then: bytes) -> Iterator[tuple[socket.socket, BinaryIO]]:
    """A connection with a call that is carried, and behind it more than is read ahead; then the call ends."""
    goes_on.clear()
    with gate.connect() as plain, plain.makefile("rb") as reader:
        plain.sendall(get("/l/app/") + then)
        until(
            lambda: not all(one.transport.is_reading() for one in list(gate.plane._callers)),
            every=0.01,
            what="the end of its patience",
        )
        goes_on.set()
        yield plain, reader
    until(lambda: not gate.plane._callers, every=0.01, what="its end")


@pytest.mark.parametrize(("path", "code"), [("/nowhere", 404), ("/l/deaf/", 503)])
def test_a_connection_is_read_on_after_much_was_refused_on_it(path: str, code: int) -> None:
    goes_on = threading.Event()

    def slowly(plain: socket.socket) -> None:
        while head(plain):
            goes_on.wait(10)
            plain.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with scripted(slowly) as application, opened(application.port) as gate:
        gate.more["deaf"] = replace(gate.target, name="deaf", lease_id=uuid4(), port=free_port())
        gate.limit()
        line = f"POST {path} HTTP/1.1\r\nContent-Length: 65000\r\n".encode() + AUTH + b"X: "
        line += b"x" * (AHEAD + 1 - len(line) - 65000 - 4) + b"\r\n\r\n"
        with held_up(gate, goes_on, line + b"y" * 65000) as (
            plain,
            reader,
        ):  # all of it, and one byte too many
            assert [next_answer(reader)[0] for _ in range(2)] == [200, code]
            plain.sendall(get("/l/app/"))
            assert next_answer(reader) == (200, b"ok")
        many = AHEAD // len(get(path)) * 2
        with held_up(gate, goes_on, get(path) * many) as (plain, reader):
            assert [next_answer(reader)[0] for _ in range(many + 1)] == [200] + [code] * many


UPGRADE = (
    b"GET /l/app/ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + AUTH + b"\r\n"
)
EXPECT = (
    b"POST /l/app/flood HTTP/1.1\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    b"Content-Length: 2\r\n" + AUTH + b"\r\n{}"
)
FLOOD = 16_000_000


@pytest.mark.parametrize("last", [UPGRADE, EXPECT], ids=["tunnel", "gathered"])
def test_a_word_of_the_gateway_s_own_may_be_what_fills_a_caller(last: bytes) -> None:
    """What follows on that word, a tunnel or an answer, is held up as what comes after any other."""

    def filling(plain: socket.socket) -> None:
        while asked := head(plain):
            path = asked.split(b" ")[1][1:]
            if path.isdigit():
                plain.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n" % path + b"x" * int(path))
                continue
            if path == b"ws":
                plain.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                )
            else:
                plain.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % FLOOD)
            plain.sendall(b"x" * FLOOD)

    cache = cached.opened(GatewaySettings(), Counters())
    with (
        scripted(filling) as application,
        opened(application.port, cache=cache) as gate,
        gate.connect() as plain,
        plain.makefile("rb") as reader,
    ):
        until(lambda: gate.plane._callers, every=0.01, what="the caller")
        [caller] = gate.plane._callers
        sizes: list[int] = []

        def waiting() -> int:
            return caller.transport.get_write_buffer_size()

        def fill(size: int) -> None:
            sizes.append(size)
            plain.sendall(get(f"/l/app/{size}"))
            until(lambda: gate.count.bytes_out == sum(sizes) and not len(gate.plane.live), every=0.001)

        while waiting() < HIGH_WATER // 4:
            fill(32_000)
        fill(HIGH_WATER - waiting() - len(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n") - 20)
        gate.limit(cache_seconds=60)
        plain.sendall(last)
        until(lambda: caller.full, every=0.01, what="the word that is too much")
        with gate.connect() as other, other.makefile("rb") as others:
            for _ in range(100):
                other.sendall(get("/l/app/1"))
                assert next_answer(others)[0] == 200
        assert waiting() < 4 * HIGH_WATER, "it flowed although nobody took it"
        assert [len(next_answer(reader)[1]) for _ in sizes] == sizes
        assert next_answer(reader)[0] == (101 if last is UPGRADE else 100)
        came = reader.read(FLOOD) if last is UPGRADE else next_answer(reader)[1]
        assert len(came) == FLOOD
