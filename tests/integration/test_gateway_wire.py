"""The built-in plane against callers and applications that misbehave: raw bytes, slow hands, ends that die."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.support.planes import TOKEN, Open, head, opened, rest, scripted, status
from tests.support.stack import until

AUTH = b"Host: gate\r\nAuthorization: Bearer TOKEN\r\n"
SEEN: list[bytes] = []


SAID = {
    b"/closes": b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"/early": b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno",
    b"/odd": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"/cut": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"/silent": b"",
}
"""By path, all that is said before the connection is closed."""


def answer(plain: socket.socket) -> None:
    """By path: what `SAID` says, a stream; else an echo."""
    while asked := head(plain):
        SEEN.append(asked)
        path = asked.split(b" ")[1]
        if path in SAID:
            plain.sendall(SAID[path])
            time.sleep({b"/silent": 5, b"/cut": 0.05}.get(path, 0))
            if path == b"/cut":
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if path == b"/stream":
            plain.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            for number in range(400):
                plain.sendall(b"data: %d\n\n" % number)
                time.sleep(0.02)
            return
        if path == b"/interim":
            plain.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        body = sent_with(asked, plain)
        SEEN.append(body)
        plain.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def sent_with(asked: bytes, plain: socket.socket) -> bytes:
    """A body as it stands on the wire."""
    body = b""
    for line in asked.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            while len(body) < int(line.partition(b":")[2]):
                body += plain.recv(65536)
        if line == b"transfer-encoding: chunked":
            while not body.endswith(b"\r\n\r\n"):
                body += plain.recv(65536)
    return body


def streaming(gate: Open) -> socket.socket:
    """A call whose answer has begun and does not end."""
    plain = gate.connect()
    plain.sendall(b"GET /l/app/stream HTTP/1.1\r\n" + AUTH.replace(b"TOKEN", TOKEN.encode()) + b"\r\n")
    assert b"200 OK" in plain.recv(1000)
    return plain


@pytest.fixture(scope="module")
def served() -> Iterator[Open]:
    with (
        scripted(answer) as application,
        opened(application.port, header_seconds=2, body_seconds=2, keep_seconds=2) as gate,
    ):
        yield gate


@pytest.fixture
def gate(served: Open) -> Open:
    SEEN.clear()
    served.limit()
    return served


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /l/app/ HTTP/1.1\r\n"
        + AUTH
        + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /l/app/ HTTP/1.1\r\n" + AUTH + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST /l/app/ HTTP/1.1\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"GET /l/app/ HTTP/1.1\n" + AUTH + b"\r\n",
        b"GET /l/app/ HTTP/1.1\r\n" + AUTH + b"X: a\r\n b\r\n\r\n",
        b"GET /l/app/ HTTP/1.1\r\n" + AUTH + b"X: a\0b\r\n\r\n",
        b"GET /l/app/../x HTTP/1.1\r\n" + AUTH + b"\r\n",
        b"GET /l/app/%2e%2e/x HTTP/1.1\r\n" + AUTH + b"\r\n",
        b"GET http://app/l/app/ HTTP/1.1\r\n" + AUTH + b"\r\n",
        b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + AUTH + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /l/app/ HTTP/1.1\r\n" + AUTH + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
    ],
)
def test_what_can_be_read_in_two_ways_reaches_no_application(gate: Open, request_: bytes) -> None:
    answered = gate.raw(request_ + b"GET /l/app/smuggled HTTP/1.1\r\n" + AUTH + b"\r\n")
    assert status(answered) in (400, 404, 408, 431, 501)
    assert answered.count(b"HTTP/1.1 ") == 1, "nothing is read after it"
    assert not any(b"smuggled" in one or b" /x" in one for one in SEEN)


def test_what_follows_a_chunked_body_is_a_request_of_its_own_or_none(gate: Open) -> None:
    first = b"POST /l/app/one HTTP/1.1\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    for more in (b"", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"):
        SEEN.clear()
        answered = gate.raw(first + b"GET /l/app/two HTTP/1.1\r\n" + more + AUTH + b"\r\n")
        assert answered.count(b"HTTP/1.1 200") == 1, more
        assert [one.split(b" ")[1] for one in SEEN if one.startswith((b"GET", b"POST"))] == [b"/one"]


def test_requests_in_one_go_are_answered_in_their_order(gate: Open) -> None:
    one = b"POST /l/app/ HTTP/1.1\r\n" + AUTH + b"Content-Length: 3\r\n\r\n"
    answered = gate.raw(b"".join(one + b"%03d" % number for number in range(20)), eof=True)
    assert [int(part[-3:]) for part in answered.split(b"HTTP/1.1 200 OK")[1:]] == list(range(20))


def test_headers_that_stand_for_the_caller_are_the_gateway_s_own(gate: Open) -> None:
    gate.ask(
        "GET /l/app/x?y=1",
        "X-Leasing-User: root", "X_Leasing_User: root", "x-forwarded-for: 6.6.6.6", "Forwarded: for=6.6.6.6",
        "Cookie: leasing_session=secret; mine=1; leasing_root_app=secret", "X-Drop: 1",
        "Connection: close, X-Drop, Host, X-Leasing-User",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "Upgrade: h2c", "TE: trailers", "Keep: 1",
    )  # fmt: skip
    asked = SEEN[0].decode()
    assert asked.startswith("GET /x?y=1 HTTP/1.1\r\n")
    lines = asked.lower().split("\r\n")
    assert [one for one in lines if "leasing" in one or "forwarded" in one] == [
        "x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", "x-forwarded-host: gate", "x-forwarded-prefix: /l/app",
        "x-leasing-user: ada",
    ]  # fmt: skip
    assert "cookie: mine=1" in lines
    assert {"keep: 1", "host: gate"} <= set(lines)
    assert not [
        one
        for one in lines
        if one.startswith(("authorization", "upgrade", "http2", "te:", "x-drop", "connection"))
    ]


def test_a_body_passes_as_it_comes_and_a_chunked_one_with_its_trailers(gate: Open) -> None:
    answered = gate.raw(
        b"POST /l/app/ HTTP/1.1\r\n" + AUTH + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"5;x=y\r\nhello\r\n4\r\n you\r\n0\r\nX-Sum: 8\r\nAuthorization: Bearer evil\r\n\r\n"
    )
    assert status(answered) == 200
    assert b"hello" in SEEN[1]
    assert SEEN[1].endswith(b"0\r\nX-Sum: 8\r\n\r\n")


def test_a_caller_that_waits_for_a_word_before_its_body_gets_it_once_it_is_let_in(gate: Open) -> None:
    line = b"POST /l/app/ HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n"
    with gate.connect() as plain:
        plain.sendall(line + AUTH.replace(b"TOKEN", TOKEN.encode()) + b"Connection: close\r\n\r\n")
        assert plain.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        plain.sendall(b"body")
        assert rest(plain).endswith(b"body")
    refused = gate.raw(line + b"Host: gate\r\n\r\n")
    assert (status(refused), refused.count(b"HTTP/1.1")) == (401, 1)


def test_a_slow_hand_is_let_go(gate: Open) -> None:
    slow: dict[str, bytes] = {}

    def dribble(name: str, first: bytes, then: bytes) -> None:
        with gate.connect() as plain, suppress(OSError):
            plain.sendall(first.replace(b"TOKEN", TOKEN.encode()))
            plain.settimeout(0.2)
            found = b""
            while True:
                with suppress(TimeoutError):
                    part = plain.recv(65536)
                    found += part
                    if not part:
                        break
                if then:
                    plain.sendall(then)
        slow[name] = found

    post = b"POST /l/app/ HTTP/1.1\r\n" + AUTH + b"Content-Length: 100\r\n\r\nab"
    hands = [
        threading.Thread(target=dribble, args=one)
        for one in (
            ("nothing", b"", b""),
            ("head", b"GET /l/app/ HTTP/1.1\r\nX: ", b"a"),
            ("body", post, b""),
            ("idle", b"GET /l/app/ HTTP/1.1\r\n" + AUTH + b"\r\n", b""),
        )
    ]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join(10)
    answered = {name: status(found) for name, found in slow.items()}
    assert answered == {"head": 408, "body": 408, "idle": 200, "nothing": 0}
    until(lambda: len(gate.plane.live) == 0, what="the end of what they asked")


def test_who_sends_no_more_is_still_answered(gate: Open) -> None:
    assert gate.raw(b"POST /l/app/ HTTP/1.1\r\n" + AUTH + b"Content-Length: 2\r\n\r\nhi", eof=True).endswith(
        b"hi"
    )
    assert gate.raw(b"POST /l/app/ HTTP/1.1\r\n" + AUTH + b"Content-Length: 9\r\n\r\nhi", eof=True) == b""
    assert gate.raw(b"GET /l/app/ HTTP/1.1\r\nHo", eof=True) == b""


def test_who_goes_away_ends_what_was_asked(gate: Open) -> None:
    with streaming(gate):
        assert len(gate.plane.live) == 1
    until(lambda: len(gate.plane.live) == 0, what="the end of the stream")
    assert not [one for one in gate.plane.pool.opened if one.usable and one.busy]


def test_an_application_that_dies_while_it_answers_makes_no_proper_end(gate: Open) -> None:
    with gate.connect() as plain:
        plain.sendall(b"GET /l/app/cut HTTP/1.1\r\n" + AUTH.replace(b"TOKEN", TOKEN.encode()) + b"\r\n")
        found = b""
        with suppress(ConnectionResetError):
            while part := plain.recv(1000):
                found += part
    assert b"hello" in found
    assert not found.endswith(b"0\r\n\r\n")
    assert status(gate.ask("GET /l/app/odd")) == 502
    assert gate.ask("GET /l/app/closes").endswith(b"d\r\nuntil the end\r\n0\r\n\r\n")
    old = b"GET /l/app/closes HTTP/1.0\r\nAuthorization: Bearer TOKEN\r\n\r\n"
    assert gate.raw(old).endswith(b"\r\n\r\nuntil the end")


def test_interim_answers_are_the_connection_s_and_an_early_one_ends_an_upload(gate: Open) -> None:
    assert gate.ask("GET /l/app/interim").count(b"HTTP/1.1 ") == 1
    with gate.connect() as plain:
        plain.sendall(
            b"POST /l/app/early HTTP/1.1\r\nContent-Length: 900000\r\n"
            + AUTH.replace(b"TOKEN", TOKEN.encode())
            + b"\r\n"
        )
        plain.sendall(b"x" * 1000)
        assert rest(plain).endswith(b"no"), "said although the body is not all there, and then closed"
    assert status(gate.ask("GET /l/app/")) == 200


def test_a_change_of_the_grants_cuts_what_streams_and_the_next_call_says_why(gate: Open) -> None:
    running = gate.target
    for change, code in (
        ({"state": "stopping"}, 503),
        ({"state": "ended", "message": "released by ada"}, 404),
        ({"generation": 2}, 200),
    ):
        with streaming(gate) as plain:
            gate.change(**change)
            with suppress(ConnectionResetError):
                last = b""
                while part := plain.recv(65536):
                    last = part
                assert not last.endswith(b"0\r\n\r\n")
        said = gate.ask()
        assert status(said) == code
        assert code != 404 or b"released by ada" in said
        gate.target = running
        gate.limit()
    with streaming(gate) as plain:
        gate.allow(("another", gate.visitor))
        with suppress(ConnectionResetError):
            while plain.recv(65536):
                pass
    assert status(gate.ask()) == 401
    gate.limit()
    assert status(gate.ask()) == 200
    gate.grants.believed = False
    assert status(gate.ask()) == 503
    gate.grants.believed = True


def test_a_call_that_is_cut_before_its_answer_is_told_so(gate: Open) -> None:
    with ThreadPoolExecutor(1) as pool:
        silent = pool.submit(gate.ask, "GET /l/app/silent")
        until(lambda: len(gate.plane.live) == 1, what="the call")
        gate.change(generation=7)
        told = silent.result(10)
    assert (status(told), b"cut_off" in told, b"Retry-After: 1\r\n" in told) == (503, True, True)
    until(lambda: len(gate.plane.live) == 0, what="its end")


def test_limits_of_a_lease_are_said_with_a_way_out(gate: Open) -> None:
    gate.limit(body_max_bytes=10)
    assert status(gate.ask("POST /l/app/", body=b"x" * 10)) == 200
    large = gate.ask("POST /l/app/", body=b"x" * 11)
    assert (status(large), b"10 bytes" in large, b"--max-body" in large) == (413, True, True)
    chunks = (
        b"POST /l/app/ HTTP/1.1\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n" + b"6\r\nabcdef\r\n" * 2
    )
    assert status(gate.raw(chunks)) == 413
    gate.limit(rate=0.01, burst=2)
    told = [gate.ask() for _ in range(4)]
    assert [status(one) for one in told] == [200, 200, 429, 429]
    assert 90 <= int(told[-1].partition(b"Retry-After: ")[2].split(b"\r")[0]) <= 100
    assert b"--rate" in told[-1]
    gate.limit(timeout_seconds=1)
    late = gate.ask("GET /l/app/silent")
    assert (status(late), b"--timeout" in late) == (504, True)


def test_what_is_no_ticket_is_refused_alike_with_or_without_a_lease_and_costs_no_query(gate: Open) -> None:
    """There is no database here at all."""
    for query in ("", "?ticket=", "?ticket=lse_", f"?ticket=lse_{'x' * 44}", f"?ticket=lse_{'%C3%A9' * 43}"):
        there, nowhere = (gate.ask(f"GET /l/{name}/.leasing/enter{query}") for name in ("app", "nothing"))
        assert (status(there), there) == (401, nowhere), query


@pytest.fixture
def narrow() -> Iterator[Open]:
    """For few calls and connections, and patient with those."""
    with (
        scripted(answer) as application,
        opened(application.port, connections=100, calls_per_lease=8) as gate,
    ):
        yield gate


def test_calls_and_connections_have_a_most(narrow: Open) -> None:
    gate = narrow
    streams = [streaming(gate) for _ in range(8)]
    busy = gate.ask()
    assert (status(busy), b"LEASING_GATEWAY_CALLS_PER_LEASE" in busy) == (503, True)
    idle = [gate.connect() for _ in range(100)]
    crowded = gate.raw(b"")
    assert (status(crowded), b"LEASING_GATEWAY_CONNECTIONS" in crowded) == (503, True)
    for plain in (*streams, *idle):
        plain.close()
    until(lambda: status(gate.ask()) == 200, seconds=5, what="room")


def test_an_upload_and_a_download_are_held_up_rather_than_kept(gate: Open) -> None:
    """More than both sides' buffers together, while nobody takes it: what the gateway holds stays small."""
    held = threading.Event()
    sizes: list[int] = []

    def lazy(plain: socket.socket) -> None:
        asked = head(plain)
        if asked.startswith(b"POST"):
            held.wait(10)
            size = 0
            while size < 64_000_000 and (part := plain.recv(1 << 20)):
                size += len(part)
            sizes.append(size)
            plain.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        else:
            plain.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 64000000\r\n\r\n")
            plain.sendall(b"x" * 64_000_000)

    with scripted(lazy) as application, opened(application.port) as lazier:
        token = AUTH.replace(b"TOKEN", TOKEN.encode())
        with lazier.connect() as plain:
            plain.sendall(
                b"POST /l/app/ HTTP/1.1\r\nContent-Length: 64000000\r\nConnection: close\r\n"
                + token
                + b"\r\n"
            )
            plain.settimeout(0.3)
            sent = 0
            with suppress(TimeoutError):
                while sent < 64_000_000:
                    sent += plain.send(b"x" * min(1 << 20, 64_000_000 - sent))
            assert sent < 32_000_000, "somebody swallowed it"
            held.set()
            plain.settimeout(20)
            plain.sendall(b"x" * (64_000_000 - sent))
            assert rest(plain).endswith(b"ok")
            assert sizes == [64_000_000]
        with lazier.connect() as plain:
            plain.sendall(b"GET /l/app/ HTTP/1.1\r\nConnection: close\r\n" + token + b"\r\n")
            plain.settimeout(20)
            assert plain.recv(1000).startswith(b"HTTP/1.1 200")
            time.sleep(0.3)
            assert lazier.count.bytes_out < 32_000_000, "it went on although nobody took it"
            found = 0
            while part := plain.recv(1 << 20):
                found += len(part)
            assert found > 63_000_000
        assert (lazier.count.bytes_in, lazier.count.bytes_out) == (64_000_000, 64_000_002)
