"""The built-in plane with a cache: what is read or waits before the application is asked is limited as any call is."""

from __future__ import annotations

import socket
import threading

from api.gateway import cache as cached
from api.gateway.traffic import Counters
from leasing.settings.gateway import GatewaySettings
from tests.support.planes import TOKEN, head, opened, rest, scripted, status
from tests.support.stack import until

AUTH = b"Host: gate\r\nAuthorization: Bearer TOKEN\r\n"


def test_a_body_that_is_gathered_for_the_cache_has_the_lease_s_limit_too() -> None:
    cache = cached.opened(GatewaySettings(), Counters())
    chunked = (
        AUTH + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    seen: list[bytes] = []

    def echo(plain: socket.socket) -> None:
        while asked := head(plain):
            seen.append(asked.split(b" ")[1])
            plain.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + plain.recv(6))

    with scripted(echo) as application, opened(application.port, cache=cache) as gate:
        gate.limit(cache_seconds=60, body_max_bytes=10)
        for name, pieces, code in (("whole", 1, 200), ("at-once", 2, 413), ("for-long", 50_000, 413)):
            line = f"POST /l/app/{name} HTTP/1.1\r\n".encode()
            said = gate.raw(line + chunked + b"6\r\nabcdef\r\n" * pieces + b"0\r\n\r\n")
            assert (status(said), b"--max-body" in said) == (code, code == 413), name
    assert seen == [b"/whole"]


def test_who_is_gathered_or_waits_for_an_equal_call_counts_as_a_call_of_the_lease() -> None:
    goes_on = threading.Event()

    def slowly(plain: socket.socket) -> None:
        while head(plain):
            goes_on.wait(10)
            plain.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    cache = cached.opened(GatewaySettings(), Counters())
    line = AUTH.replace(b"TOKEN", TOKEN.encode()) + b"Connection: close\r\n"
    with (
        scripted(slowly) as application,
        opened(application.port, cache=cache, calls_per_lease=4, body_seconds=5) as gate,
    ):
        gate.limit(cache_seconds=60)
        equal = [gate.connect() for _ in range(2)]
        for plain in equal:
            plain.sendall(b"GET /l/app/ HTTP/1.1\r\n" + line + b"\r\n")
        uploads = [gate.connect() for _ in range(2)]
        for plain in uploads:
            plain.sendall(b"POST /l/app/ HTTP/1.1\r\nContent-Length: 9\r\n" + line + b"\r\nhalf")
        until(lambda: gate.plane.live.calls("app") == 4, seconds=5, what="all four")
        busy = gate.ask("GET /l/app/other")
        assert (status(busy), b"LEASING_GATEWAY_CALLS_PER_LEASE" in busy) == (503, True)
        uploads[0].close()
        uploads[1].sendall(b"more!")
        goes_on.set()
        assert [status(rest(plain)) for plain in (*equal, uploads[1])] == [200] * 3
        until(lambda: gate.plane.live.calls("app") == 0, seconds=5, what="nothing counted")
        for plain in (*equal, uploads[1]):
            plain.close()
