"""Host mode, applications at `/`, WebSockets through the built-in plane, and who may come with a cookie."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import aiohttp
import httpx
import pytest
from websockets.sync.client import connect

from api.gateway import server
from api.gateway.grants import Visitor
from leasing.settings.core import CoreSettings
from leasing.states import LeaseState
from tests.support import certificates
from tests.support.planes import TOKEN, Open, opened, rest, status
from tests.support.rooted import Rooted, rooted
from tests.support.stack import until

DOMAIN = "apps.localhost"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ASK = (
    b"GET /l/app/ws HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer TOKEN\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture(scope="module")
def application() -> Iterator[Rooted]:
    with rooted() as made:
        yield made


@pytest.fixture(scope="module")
def gate(application: Rooted) -> Iterator[Open]:
    with opened(application.port, domain=DOMAIN, idle_seconds=30) as made:
        yield made


def get(gate: Open, path: str, host: str = "gate", **headers: str) -> httpx.Response:
    named = {"Host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(f"http://127.0.0.1:{gate.port}{path}", headers=named)


def test_a_host_of_its_own_has_no_prefix(gate: Open, application: Rooted) -> None:
    answer = get(gate, "/api/data?x=1", f"app.{DOMAIN}:{gate.port}", **BEARER)
    assert (answer.status_code, answer.text) == (200, "data")
    path, headers = application.seen[-1]
    assert (path, headers["X-Forwarded-Prefix"]) == ("/api/data?x=1", "")
    assert headers["X-Forwarded-Host"] == f"app.{DOMAIN}:{gate.port}"
    page = get(gate, "/", f"app.{DOMAIN}", **BEARER)
    assert page.headers["set-cookie"] == "own=1; Path=/"
    assert get(gate, "/moved", f"app.{DOMAIN}", **BEARER).headers["location"] == "/next"
    assert get(gate, "/", f"other.{DOMAIN}", **BEARER).status_code == 404
    assert get(gate, "/", f"other.{DOMAIN}").status_code == 401, "who is not known learns nothing"
    assert get(gate, "/", DOMAIN, **BEARER).status_code == 404
    assert get(gate, "/l/app/", DOMAIN, **BEARER).status_code == 200


def test_an_absolute_link_is_sent_back_below_the_prefix_and_lets_nobody_in(gate: Open) -> None:
    back = get(gate, "/static/app.js", Referer="http://gate/l/app/")
    assert (back.status_code, back.headers["location"]) == (307, "/l/app/static/app.js")
    assert get(gate, "/l/app/static/app.js", Cookie="leasing_route=app").status_code == 401
    assert get(gate, "/static/app.js", Referer="http://elsewhere/l/app/").status_code == 404
    page = get(gate, "/l/app/", Accept="text/html", Cookie=f"leasing_endpoint={TOKEN}")
    assert "leasing_route=app; Path=/; HttpOnly; SameSite=Lax" in page.headers.get_list("set-cookie")
    assert "leasing_route" not in get(gate, "/l/app/", Accept="text/html", **BEARER).headers.get(
        "set-cookie", ""
    )


def test_a_cookie_opens_its_own_lease_and_only_from_its_own_page(gate: Open) -> None:
    cookie = {"Cookie": f"leasing_endpoint={TOKEN}"}
    rooted_ = {"Cookie": f"leasing_root_app={TOKEN}"}
    assert get(gate, "/l/app/api/data", **cookie).status_code == 200
    assert get(gate, "/l/app/api/data", **rooted_).status_code == 200
    assert get(gate, "/l/app/api/data", Cookie=f"leasing_root_other={TOKEN}").status_code == 401
    url = f"http://127.0.0.1:{gate.port}/l/app/api/echo"
    for origin, code in (("http://gate", 200), ("http://other", 403), ("null", 403), ("http://gate:1", 403)):
        sent = httpx.post(url, headers={"Host": "gate", "Origin": origin} | cookie, content=b"x")
        assert sent.status_code == code, origin
    sent = httpx.post(url, headers={"Origin": "http://other"} | BEARER, content=b"x")
    assert sent.status_code == 200, "a token was brought on purpose"
    stolen = gate.raw(
        ASK.replace(b"Authorization: Bearer TOKEN", b"Cookie: leasing_endpoint=TOKEN\r\nOrigin: http://b")
        + b"\r\n"
    )
    assert (status(stolen), b"other_origin" in stolen) == (403, True)


def test_a_token_for_another_lease_and_one_that_ended_open_nothing(gate: Open) -> None:
    soon = gate.visitor.expires_at
    assert soon is None
    for other, code in (
        (Visitor(uuid4(), gate.visitor.user_id, "ada", admin=False, lease_id=uuid4(), expires_at=None), 403),
        (
            Visitor(
                uuid4(),
                gate.visitor.user_id,
                "ada",
                admin=False,
                lease_id=gate.target.lease_id,
                expires_at=None,
            ),
            200,
        ),
        (Visitor(uuid4(), uuid4(), "eve", admin=False, lease_id=None, expires_at=None), 403),
    ):
        gate.allow((TOKEN, gate.visitor), ("lse_other", other))
        assert get(gate, "/l/app/api/data", Authorization="Bearer lse_other").status_code == code
    gate.allow((TOKEN, gate.visitor))
    assert get(gate, "/l/app/api/data", Authorization="Bearer lse_other").status_code == 401


def test_an_address_outside_the_leases_networks_gets_no_packet(gate: Open) -> None:
    gate.change(address="198.51.100.7")
    answer = get(gate, "/l/app/", **BEARER)
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream_outside")
    assert not [one for one in gate.plane.pool.opened if one.key[1] != "127.0.0.1"]
    gate.change(address="127.0.0.1")


async def talk(gate: Open, times: int, size: int) -> tuple[str | None, int | None, int]:
    async with (
        aiohttp.ClientSession(headers=BEARER) as client,
        client.ws_connect(
            f"http://127.0.0.1:{gate.port}/l/app/ws", protocols=["chat"], max_msg_size=0, compress=15
        ) as ws,
    ):
        right = 0
        for number in range(times):
            await ws.send_str(f"hello {number}")
            right += await ws.receive_str() == f"HELLO {number}"
        big = os.urandom(size)
        await ws.send_bytes(big)
        right += await ws.receive_bytes() == big
        await ws.ping()
        await ws.close(code=1000)
        return ws.protocol, ws.close_code, right


def test_a_websocket_is_a_tunnel_and_its_messages_are_told_from_a_page_s_own(gate: Open) -> None:
    before = gate.count.asked
    assert asyncio.run(talk(gate, 20, 2_000_000)) == ("chat", 1000, 21)
    assert gate.count.bytes_in > 2_000_000
    assert gate.count.asked - before >= 5
    until(lambda: len(gate.plane.live) == 0, what="the end of the tunnel")


def test_only_what_was_asked_for_becomes_a_tunnel(gate: Open) -> None:
    assert status(gate.raw(ASK.replace(b"13\r\n", b"8\r\n") + b"Connection: close\r\n\r\n")) == 400
    assert (
        status(
            gate.raw(
                ASK.replace(b"websocket", b"h2c").replace(b"Upgrade\r\n", b"Upgrade, close\r\n") + b"\r\n"
            )
        )
        != 101
    )
    gate.change(state=LeaseState.STOPPING)
    assert status(gate.raw(ASK + b"\r\n", seconds=1)) == 503
    gate.change(state=LeaseState.RUNNING)


def test_a_tunnel_ends_with_its_lease_and_with_either_end(gate: Open) -> None:
    def tunnel() -> socket.socket:
        plain = gate.connect()
        plain.sendall(ASK.replace(b"TOKEN", TOKEN.encode()) + b"\r\n")
        assert b"101 Switching" in plain.recv(1000)
        return plain

    with tunnel() as plain, suppress(ConnectionResetError):
        gate.change(state=LeaseState.STOPPING)
        assert plain.recv(100) == b""
    gate.change(state=LeaseState.RUNNING)
    with tunnel() as plain:
        plain.shutdown(socket.SHUT_WR)
        rest(plain)
    until(lambda: len(gate.plane.live) == 0, what="the end of the half-open tunnel")


def test_a_flood_of_messages_leaves_room_for_others(gate: Open) -> None:
    """Small messages as fast as they go, from several sides, while somebody else calls."""

    async def flood() -> None:
        async with aiohttp.ClientSession(headers=BEARER) as client:
            sockets = [await client.ws_connect(f"http://127.0.0.1:{gate.port}/l/app/ws") for _ in range(4)]

            async def pour(one: aiohttp.ClientWebSocketResponse) -> None:
                for number in range(1500):
                    await one.send_str(f"{number}")
                for _ in range(1500):
                    await one.receive_str()

            await asyncio.gather(*(pour(one) for one in sockets))
            for one in sockets:
                await one.close()

    with ThreadPoolExecutor() as pool, httpx.Client(headers=BEARER, timeout=30) as client:
        flooding = pool.submit(asyncio.run, flood())
        answered = 0
        while not flooding.done():
            assert client.get(f"http://127.0.0.1:{gate.port}/l/app/api/data").status_code == 200
            answered += 1
        flooding.result()
    assert answered > 3, "who calls meanwhile does not wait for the end of it"
    assert gate.count.asked > 0


def test_the_same_over_tls_and_not_below_1_2(application: Rooted, tmp_path: Path) -> None:
    given = certificates.issue(tmp_path)
    settings = CoreSettings(tls_certificate=given.certificate, tls_key=given.key)
    trusted = ssl.create_default_context(cafile=str(given.authority))
    with opened(application.port, context=server._tls(settings), header_seconds=0.5) as safe:
        url = f"https://127.0.0.1:{safe.port}/l/app"
        with httpx.Client(verify=trusted, headers=BEARER, timeout=10) as client:
            body = "x" * 3_000_000
            assert client.post(f"{url}/api/echo", content=body).text == body
            assert client.get(f"{url}/api/data").text == "data"
            assert application.seen[-1][1]["X-Forwarded-Proto"] == "https"
        assert safe.count.bytes_in == 3_000_000

        words = connect(
            f"wss://127.0.0.1:{safe.port}/l/app/ws", ssl=trusted, additional_headers=BEARER, proxy=None
        )
        with words as ws:
            ws.send("safe")
            assert ws.recv(10) == "SAFE"
        with safe.connect() as plain, trusted.wrap_socket(plain, server_hostname="127.0.0.1") as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nX")
            slow.settimeout(5)
            assert status(rest(slow)) == 408
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that is why it is tried
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with safe.connect() as plain, pytest.raises(ssl.SSLError):
            old.wrap_socket(plain)
        assert status(safe.raw(b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n", seconds=0.5)) == 0, (
            "no word in the clear"
        )
        until(lambda: len(safe.plane.live) == 0, what="the end of all")
