"""The gateway over real sockets and rows: who gets in, what passes, what is refused."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import aiohttp
import httpx
import pytest
import sqlalchemy as sa
from aiohttp import WSMsgType, web

from leasing.database import now
from leasing.model import Lease, Run, Signal, Token, TokenKind, Traffic, User
from leasing.service import people
from leasing.settings.core import CoreSettings
from leasing.settings.gateway import GatewaySettings
from tests.support import gateways
from tests.support.applications import serving
from tests.support.cluster import Cluster, user
from tests.support.stack import free_port, until

TOKEN = "application's own"


@dataclass
class Upstream:
    """A real application on loopback that remembers what reached it."""

    port: int = 0
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            socket_ = web.WebSocketResponse(protocols=["chat"])
            await socket_.prepare(request)
            async for message in socket_:
                if message.type == WSMsgType.TEXT:
                    await socket_.send_str(message.data.upper())
                elif message.type == WSMsgType.BINARY:
                    await socket_.send_bytes(message.data)
            return socket_
        body = await request.read()
        if "no_track_activity" not in request.query:  # what the gateway itself asks
            self.seen.append((request.method, request.raw_path, dict(request.headers), body))
        if request.path.endswith("/stream"):
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for number in range(600):
                await response.write(f"data: {number}\n\n".encode())
                await asyncio.sleep(0.05)
            return response
        headers = {"Set-Cookie": "app=1; Path=/; Domain=example.com", "X-Length": str(len(body))}
        if request.path.endswith("/moved"):
            return web.Response(status=302, headers=headers | {"Location": "/elsewhere?x=1"})
        return web.Response(text="hello", headers=headers)


@dataclass
class Gate:
    """A gateway, the lease behind it, and its owner's token."""

    url: str
    port: int
    cluster: Cluster
    lease: Lease
    token: str
    upstream: Upstream

    def get(self, path: str = "", token: str | None = None, **arguments: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.token}"} | dict(
            arguments.pop("headers", None) or {}
        )  # type: ignore[call-overload]  # a plain dict
        method = str(arguments.pop("method", "GET"))
        return httpx.request(method, f"{self.url}/l/{self.lease.name}/{path}", headers=headers, **arguments)  # type: ignore[arg-type]  # httpx checks them


@pytest.fixture
def gate(database_url: str) -> Iterator[Gate]:
    upstream = Upstream()
    with serving(upstream.answer) as upstream.port, Cluster.opened(database_url) as cluster:
        lease = cluster.run(name="app", port=upstream.port)
        with cluster.sessions.begin() as session:
            session.execute(sa.update(Run).values(address="127.0.0.1"))
            _, token = people.issue(session, cluster.ada.user_id, TokenKind.API, "test", expires_at=None)
        settings = CoreSettings(gateway_port=free_port())
        made = Gate(settings.gateway_url, settings.gateway_port, cluster, lease, token, upstream)
        with gateways.serving(cluster, settings, GatewaySettings(flush_seconds=0.2, poll_seconds=0.5)):
            until(lambda: _status(made) == 200, what="the gateway")
            upstream.seen.clear()
            yield made


def _status(gate: Gate) -> int:
    try:
        return gate.get().status_code
    except httpx.TransportError:
        return 0


def test_the_owner_gets_in_and_others_are_told_apart(gate: Gate) -> None:
    with gate.cluster.sessions.begin() as session:
        _, eve = people.issue(session, user(session, "eve").user_id, TokenKind.API, "test", expires_at=None)
    until(lambda: gate.get(token=eve).status_code == 403, what="the new token")
    assert httpx.get(f"{gate.url}/l/app/").json()["code"] == "not_signed_in"
    assert gate.get(token="lse_nosuch").status_code == 401
    unknown = httpx.get(f"{gate.url}/l/nosuch/", headers={"Authorization": f"Bearer {gate.token}"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert httpx.get(f"{gate.url}/api/v1/leases").status_code == 404
    page = httpx.get(f"{gate.url}/l/app/", headers={"Accept": "text/html"})
    assert (page.status_code, "/open/app" in page.text) == (401, True)
    moved = httpx.get(f"{gate.url}/l/app?q=1", headers={"Authorization": f"Bearer {gate.token}"})
    assert (moved.status_code, moved.headers["location"]) == (308, "/l/app/?q=1")


def test_bytes_pass_both_ways_and_credentials_do_not(gate: Gate) -> None:
    body = bytes(range(256)) * 20_000
    answer = gate.get(
        "a%2Fb/../c?x=%20y&x=2", method="POST", content=body,
        headers={
            "X-Forwarded-For": "6.6.6.6", "X-Leasing-User": "root", "Cookie": "leasing_session=s; mine=1",
            "Connection": "keep-alive, X-Drop", "X-Drop": "1",
        },
    )  # fmt: skip
    assert (answer.status_code, answer.text, answer.headers["x-length"]) == (200, "hello", str(len(body)))
    ((method, path, headers, got),) = gate.upstream.seen
    assert (method, got) == ("POST", body)
    assert path.endswith("?x=%20y&x=2")
    assert "Authorization" not in headers
    assert headers["Cookie"] == "mine=1"
    assert (headers["X-Leasing-User"], headers["X-Forwarded-For"]) == ("ada", "127.0.0.1")
    assert headers["X-Forwarded-Prefix"] == "/l/app"
    assert "X-Drop" not in headers
    assert answer.headers["set-cookie"] == "app=1; Path=/l/app/"
    assert gate.get("moved").headers["location"] == "/l/app/elsewhere?x=1"
    head = gate.get(method="HEAD")
    assert (head.status_code, head.content) == (200, b"")


def test_an_application_s_own_authorization_is_left_to_it_behind_a_cookie(gate: Gate) -> None:
    ticket = gateways.ticket(gate.cluster, gate.lease)
    entered = httpx.get(f"{gate.url}/l/app/.leasing/enter", params={"ticket": ticket})
    assert entered.status_code == 303
    cookie = entered.cookies["leasing_endpoint"]
    assert httpx.get(f"{gate.url}/l/app/.leasing/enter", params={"ticket": ticket}).status_code == 401
    told = [
        httpx.get(f"{gate.url}/l/{name}/.leasing/enter", params={"ticket": ticket})
        for name in ("app", "nothing")
    ]
    assert told[0].status_code == told[1].status_code == 401
    assert told[0].content == told[1].content, "nobody learns whether there is such a lease"
    headers = {"Cookie": f"leasing_endpoint={cookie}", "Authorization": f"Bearer {TOKEN}"}
    assert httpx.get(f"{gate.url}/l/app/", headers=headers).status_code == 200
    assert gate.upstream.seen[-1][2]["Authorization"] == f"Bearer {TOKEN}"
    assert "Cookie" not in gate.upstream.seen[-1][2]
    other = gate.cluster.ask(name="other")
    until(
        lambda: httpx.get(f"{gate.url}/l/other/", headers=headers).status_code == 403, what="the other lease"
    )
    assert other.name == "other"


def test_a_revocation_and_a_release_are_in_force_at_once(gate: Gate) -> None:
    with gate.cluster.sessions.begin() as session:
        session.execute(sa.update(Token).values(revoked_at=now(session)))
    until(lambda: gate.get().status_code == 401, what="the revocation")
    with gate.cluster.sessions.begin() as session:
        session.execute(sa.update(Token).values(revoked_at=None))
    until(lambda: gate.get().status_code == 200, what="the way back")
    with gate.cluster.sessions.begin() as session:
        session.execute(sa.update(User).values(disabled_at=now(session)))
    until(lambda: gate.get().status_code == 401, what="the disabling")
    with gate.cluster.sessions.begin() as session:
        session.execute(sa.update(User).values(disabled_at=None))
    until(lambda: gate.get().status_code == 200, what="the way back")
    gate.cluster.release(gate.lease.id)
    stopping = until(lambda: (one := gate.get()).status_code == 503 and one, what="the stop")
    assert stopping.json()["code"] == "not_running"
    gate.cluster.work()
    gone = until(lambda: (one := gate.get()).status_code == 404 and one, what="the end")
    assert (gone.json()["code"], "released" in gone.json()["detail"]) == ("gone", True)


def test_a_stream_goes_on_and_is_cut_when_its_lease_ends(gate: Gate) -> None:
    lines: list[str] = []

    def read() -> None:
        headers = {"Authorization": f"Bearer {gate.token}"}
        with httpx.stream("GET", f"{gate.url}/l/app/stream", headers=headers, timeout=10) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                if len(lines) == 5:
                    gate.cluster.release(gate.lease.id)

    with pytest.raises(httpx.TransportError):
        read()
    assert lines[:5] == ["data: 0", "", "data: 1", "", "data: 2"]


def test_nothing_listening_is_said_with_the_likely_reason(gate: Gate) -> None:
    with gate.cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(port=free_port()))
        people.signin_secret(session, "ada", now=now(session), actor="test")  # a change the gateway hears of
    answer = until(lambda: (one := gate.get()).status_code == 503 and one, what="the 503")
    assert (answer.json()["code"], answer.headers["retry-after"]) == ("not_listening", "5")
    assert "0.0.0.0" in answer.json()["detail"]
    page = gate.get(headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert 'http-equiv="refresh" content="5"' in page.text
    assert "lease logs app" in page.text
    script = {"Accept": "text/html", "Sec-Fetch-Dest": "empty"}
    assert gate.get(headers=script).json()["code"] == "not_listening", "which is no page"


def test_an_upstream_outside_the_leases_networks_is_never_connected_to(gate: Gate) -> None:
    with gate.cluster.sessions.begin() as session:
        session.execute(sa.update(Run).values(address="198.51.100.7"))
        people.signin_secret(session, "ada", now=now(session), actor="test")
    answer = until(lambda: (one := gate.get()).status_code == 502 and one, what="the refusal")
    assert answer.json()["code"] == "upstream_outside"
    assert ipaddress.ip_address("198.51.100.7") not in ipaddress.ip_network("127.0.0.0/8")


def test_a_websocket_passes_both_ways(gate: Gate) -> None:
    async def talk() -> tuple[str | None, str, bytes, int | None]:
        headers = {"Authorization": f"Bearer {gate.token}"}
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(
                f"{gate.url}/l/app/ws", headers=headers, protocols=["chat"], max_msg_size=0
            ) as ws,
        ):
            await ws.send_str("hello")
            text = await ws.receive_str()
            await ws.send_bytes(b"\0" * 3_000_000)
            big = await ws.receive_bytes()
            await ws.close()
            return ws.protocol, text, big[:1], len(big)

    assert asyncio.run(talk()) == ("chat", "HELLO", b"\0", 3_000_000)


def test_traffic_is_counted_and_silence_is_quiet(gate: Gate) -> None:
    gate.get(method="POST", content=b"x" * 1000)

    def counted() -> bool:
        with gate.cluster.sessions() as session:
            row = session.get(Traffic, gate.lease.id)
            return row is not None and row.bytes_in_total >= 1000 and row.requests_total >= 2

    until(counted, what="the counts")
    with gate.cluster.sessions() as session:
        first = session.get_one(Signal, (gate.lease.id, "endpoint"))

    def still_seen() -> bool:
        with gate.cluster.sessions() as session:
            signal = session.get_one(Signal, (gate.lease.id, "endpoint"))
            return (
                signal.seen_at > first.seen_at + timedelta(milliseconds=500)
                and signal.active_at == first.active_at
            )

    until(still_seen, what="a quiet reading")


def test_a_page_that_only_polls_is_quiet_and_what_a_person_does_is_not(gate: Gate) -> None:
    def endpoint() -> tuple[Signal, int]:
        with gate.cluster.sessions() as session:
            signal = session.get(Signal, (gate.lease.id, "endpoint"))
            traffic = session.get(Traffic, gate.lease.id)
            return signal or Signal(), traffic.requests_total if traffic else 0

    def polled() -> bool:
        """Once it is told from a person, it makes requests and no activity."""
        gate.get(f"api/kernels?{time.time_ns()}")
        signal, requests = endpoint()
        return requests >= 12 and signal.active_at is not None and signal.seen_at > signal.active_at

    until(polled, what="the beat of the page")
    before, _ = endpoint()
    assert before.value == 0
    gate.get("run", method="POST", content=b"go")
    until(lambda: (endpoint()[0].active_at or before.seen_at) > before.seen_at, what="a person's request")
    with gate.cluster.sessions() as session:
        assert session.get_one(Traffic, gate.lease.id).own_bytes_total > 600


def test_problems_are_json(gate: Gate) -> None:
    answer = httpx.get(f"{gate.url}/l/app/")
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert set(json.loads(answer.text)) >= {"type", "title", "status", "code", "detail"}
