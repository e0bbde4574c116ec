"""HTTP/1.1 as the gateway reads it: what two readers could read in two ways is no request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.gateway.wire import front, requests, responses
from api.gateway.wire.frames import AT_ONCE, SHORT, Frames
from api.gateway.wire.message import MAX_HEAD, Malformed, chunk

HOST = "Host: gate\r\n"


def parse(line: str, *headers: str) -> requests.Request:
    return requests.parse("".join(f"{one}\r\n" for one in (line, *headers, "")).encode("latin-1"))


@pytest.mark.parametrize(
    "head",
    [
        "GET /\r\n" + HOST,
        "GET / HTTP/1.1\n" + HOST,
        "GET / HTTP/2.0\r\n" + HOST,
        "GET / HTTP/1.2\r\n" + HOST,
        "GET  / HTTP/1.1\r\n" + HOST,
        "GET / HTTP/1.1 \r\n" + HOST,
        "GET /a b HTTP/1.1\r\n" + HOST,
        "get / HTTP/1.1\r\n" + HOST,
        "\r\nGET / HTTP/1.1\r\n" + HOST,
        "GET http://gate/ HTTP/1.1\r\n" + HOST,
        "OPTIONS * HTTP/1.1\r\n" + HOST,
        "CONNECT gate:80 HTTP/1.1\r\n" + HOST,
        "GET /a#b HTTP/1.1\r\n" + HOST,
        "GET /a?b#c HTTP/1.1\r\n" + HOST,
        "GET /\xe9 HTTP/1.1\r\n" + HOST,
        "GET / HTTP/1.1\r\nX: 1\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n",
        "GET / HTTP/1.1\r\nHost: \r\n",
        "GET / HTTP/1.1\r\nHost: a:x\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X : 1\r\n",
        "GET / HTTP/1.1\r\n" + HOST + " X: 1\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X: 1\r\n 2\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X: 1\r2\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X: 1\nY: 2\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X: \x00\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X\x00: 1\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X: 1\r\n" * 201,
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length: 1\r\nContent-Length: 1\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length: 1\r\nContent-Length: 2\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length: 1, 1\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length: +1\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length: -1\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length: 0x1\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length:\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length: 9999999999999999999\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Transfer-Encoding: xchunked\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Transfer-Encoding: chunked, identity\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Transfer-Encoding: gzip, chunked\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Transfer-Encoding: identity\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Transfer-Encoding:\x0bchunked\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        "POST / HTTP/1.0\r\n" + HOST + "Transfer-Encoding: chunked\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 1\r\n",
        "GET /l/a/../b HTTP/1.1\r\n" + HOST,
        "GET /l/a/./b HTTP/1.1\r\n" + HOST,
        "GET /l/a/.. HTTP/1.1\r\n" + HOST,
        "GET /l/a/%2e%2E/b HTTP/1.1\r\n" + HOST,
        "GET /l/a/.%2e/b HTTP/1.1\r\n" + HOST,
        "GET /l/a/..%2fb HTTP/1.1\r\n" + HOST,
        "GET /l/a%2f..%2fb HTTP/1.1\r\n" + HOST,
        "GET /l/a/..;x=1/b HTTP/1.1\r\n" + HOST,
        "GET /l/a/..%5cb HTTP/1.1\r\n" + HOST,
        "GET /l/a\\..\\b HTTP/1.1\r\n" + HOST,
        "GET /l/a/%00 HTTP/1.1\r\n" + HOST,
        "GET /l/a/%0d%0aX:1 HTTP/1.1\r\n" + HOST,
        "GET //evil/ HTTP/1.1\r\n" + HOST,
    ],
)
def test_no_request(head: str) -> None:
    with pytest.raises(Malformed):
        requests.parse((head + "\r\n").encode("latin-1"))


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/l/a/.well-known/x",
        "/a...b",
        "/a/...",
        "/a//b",
        "/a%2Fb",
        "/a?x=../..&y=//&z=%2e%2e",
        "/%252e%252e/",
        "/a;b",
    ],
)
def test_paths_that_mean_one_thing_pass_as_they_are(target: str) -> None:
    assert parse(f"GET {target} HTTP/1.1", "Host: gate").target == target.encode()


@pytest.mark.parametrize(
    "host", ["gate", "gate:8081", "a.b-c.example", "127.0.0.1:1", "[::1]:8081", "[fe80::1]"]
)
def test_hosts(host: str) -> None:
    assert parse("GET / HTTP/1.1", f"Host: {host}").found[b"host"] == host.encode()


def test_a_connection_is_kept_if_the_caller_means_it() -> None:
    assert parse("GET / HTTP/1.1", "Host: gate").keep
    assert not parse("GET / HTTP/1.1", "Host: gate", "Connection: X, close").keep
    assert not parse("GET / HTTP/1.0").keep


def test_only_a_whole_request_for_a_websocket_is_one() -> None:
    asked = [
        "Host: gate",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
    ]
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    assert parse("GET / HTTP/1.1", *asked, key).websocket
    assert not parse("GET / HTTP/1.1", *asked).websocket
    assert not parse("GET / HTTP/1.1", *asked, "Sec-WebSocket-Key: short").websocket
    assert not parse("GET / HTTP/1.1", asked[0], *asked[2:], key).websocket
    assert not parse("POST / HTTP/1.1", *asked, key).websocket
    assert responses.accepts(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # of RFC 6455


def test_a_head_is_found_where_it_ends_and_too_long_a_one_is_refused() -> None:
    head = b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n"
    assert requests.head_length(head[:-1]) == 0
    assert requests.head_length(head + b"more") == len(head)
    with pytest.raises(Malformed) as refused:
        requests.head_length(b"G" * MAX_HEAD)
    assert refused.value.status == 431


def chunked() -> requests.Request:
    return parse("POST / HTTP/1.1", "Host: gate", "Transfer-Encoding: chunked")


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.integers(1, 40))
def test_a_chunked_body_is_the_same_in_whatever_pieces_it_comes(parts: list[bytes], step: int) -> None:
    wire = b"".join(chunk(part) for part in parts) + b"0\r\nX-Sum: 1\r\n\r\n"
    body = chunked().body()
    got = b""
    for at in range(0, len(wire), step):
        assert not body.done
        part, over = body.feed(wire[at : at + step])
        got += part
        assert over == b""
    assert (got, body.done, body.excess) == (b"".join(parts), True, False)
    assert body.trailers == [(b"x-sum", b"X-Sum", b"1")]


@pytest.mark.parametrize(
    "wire",
    [
        b"zz\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\nX: 1\nY: 2\r\n\r\n",
        b"5;" + b"a" * 40_000,
        b"0\r\nX: " + b"a" * 40_000,
        b"0\r\n" + b"X: 1\r\n" * 300,
    ],
)
def test_no_chunked_body(wire: bytes) -> None:
    body = chunked().body()

    def feed() -> None:
        for at in range(0, len(wire), 1000):
            body.feed(wire[at : at + 1000])

    with pytest.raises(Malformed):
        feed()


def test_what_follows_a_chunked_body_at_once_is_noticed() -> None:
    for more in (b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense"):
        body = chunked().body()
        part, _ = body.feed(b"5\r\nhello\r\n0\r\n\r\n" + more)
        assert (part, body.done, body.excess) == (b"hello", True, True)


def test_a_counted_body_ends_where_it_says() -> None:
    body = parse("POST / HTTP/1.1", "Host: gate", "Content-Length: 5").body()
    assert body.feed(b"hel") == (b"hel", b"")
    assert not body.done
    assert body.feed(b"loGET") == (b"lo", b"GET")
    assert body.done


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n",
        "HTTP/1.1 200 OK\nX: a\r\n",
        "HTTP/1.1 99 Odd\r\n",
        "HTTP/1.1 600 Odd\r\n",
        "HTTP/2 200 OK\r\n",
        "GET / HTTP/1.1\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
def test_no_answer(head: str) -> None:
    with pytest.raises(Malformed):
        responses.parse((head + "\r\n").encode(), method=b"GET")


def test_how_an_answer_ends() -> None:
    def body(head: str, method: bytes = b"GET") -> tuple[bool, bool]:
        found = responses.parse((head + "\r\n").encode(), method=method)
        return found.counted, found.keep

    assert body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n") == (True, True)
    assert body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n") == (True, False)
    assert body("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n") == (True, False)
    assert body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n") == (False, True)
    assert body("HTTP/1.1 200 OK\r\n") == (False, False)
    assert body("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n") == (True, True)
    assert body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", b"HEAD") == (True, True)
    assert responses.parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", method=b"HEAD").body().done


def frame(payload: bytes, opcode: int = 1, *, last: bool = True, mask: bytes = b"\x11\x22\x33\x44") -> bytes:
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    if size > 65_535:
        length = b"\xff" + size.to_bytes(8, "big")
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([(0x80 if last else 0) | opcode]) + length + mask + masked


@given(st.lists(st.binary(max_size=400), max_size=6), st.integers(1, 64))
def test_messages_are_told_in_whatever_pieces_they_come(messages: list[bytes], step: int) -> None:
    wire = b"".join(
        frame(one[:3], last=False) + frame(b"", 9) + frame(one[3:], 0) if len(one) > 5 else frame(one)
        for one in messages
    )
    frames = Frames()
    told = [said for at in range(0, len(wire), step) for said in frames.feed(wire[at : at + step])]
    assert told == [one if len(one) <= SHORT else None for one in messages]
    assert not frames.lost


def test_a_flood_of_messages_is_told_of_once() -> None:
    assert Frames().feed(frame(b"x") * (AT_ONCE + 1)) == [None]


@pytest.mark.parametrize(
    "wire", [b"\x81\x01x", b"\xc1\x81....x", b"\x83\x80....", b"\x89\xfe\x01\x00....", b"\x09\x80...."]
)
def test_what_no_client_sends_is_told_of_no_further(wire: bytes) -> None:
    frames = Frames()
    assert frames.feed(wire + b"\0" * 10) == [None]
    assert frames.lost


def test_the_line_of_a_proxy_in_front() -> None:
    assert front.parse(b"PROXY TCP4 10.1.2.3 10.0.0.1 50000 443\r\nGET") == (b"10.1.2.3", b"GET")
    assert front.parse(b"PROXY TCP6 ::1 ::1 1 2\r\n") == (b"::1", b"")
    assert front.parse(b"PROXY UNKNOWN\r\n") == (b"", b"")
    assert front.parse(b"PROXY TCP4 10.1") is None
    for wrong in (b"GET / HTTP/1.1\r\n", b"PROXY TCP4 evil 1 2 3\r\n", b"PROXY " + b"x" * 200):
        with pytest.raises(Malformed):
            front.parse(wrong)
