"""Both planes as one: a real HAProxy in front of the built-in plane, over real sockets and rows."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.model import Run, Signal, Token, TokenKind, Traffic
from leasing.service import people
from tests.support import fronts, gateways
from tests.support.cluster import user
from tests.support.gateways import Application, Gate
from tests.support.stack import until


@pytest.fixture
def gate(database_url: str, tmp_path: Path) -> Iterator[Gate]:
    with gateways.opened(database_url, tmp_path, plane="haproxy", proxy_threads=1) as made:
        yield made


def carried(request: bytes) -> str:
    """Which plane wrote that request: the proxy writes every name in small letters."""
    return "proxy" if b"\r\nx-forwarded-for:" in request else "built-in"


def test_an_application_is_told_the_same_whichever_way_a_call_went(gate: Gate) -> None:
    more = {"X-Leasing-User": "root", "X_Leasing_User": "root", "X-Forwarded-For": "6.6.6.6", "X-Own": "1"}
    gate.call("a?x=1", "POST", **more)
    gate.call("a?x=1", "GET", **more)
    fast, slow = gate.application.seen
    assert (carried(fast), carried(slow)) == ("proxy", "built-in")
    told = [fronts.headers(one) for one in (fast, slow)]
    told[0].pop("content-length")
    assert told[0] == told[1]
    assert told[0]["x-forwarded-for"] == "127.0.0.1"


def test_that_nothing_listens_yet_is_said_the_same_whichever_way_a_call_went(gate: Gate) -> None:
    gate.application.close()
    with gate.cluster.sessions.begin() as session:
        session.execute(sa.update(Run).values(started_at=now(session) - timedelta(minutes=5)))

    def said(method: str) -> tuple[str, int]:
        """And the seconds since its start."""
        answer = until(
            lambda: re.search(r"started 3\d\d s", (one := gate.call(method=method)).text) and one, what="it"
        )
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.headers["retry-after"], answer.headers["cache-control"]) == ("5", "no-store")
        text, ago, rest = re.split(r"started (\d+) s ago", answer.text)
        return text + rest, int(ago)

    (fast, fast_ago), (slow, slow_ago) = said("POST"), said("GET")
    assert json.loads(fast) == json.loads(slow)
    assert f"nothing listens on port {gate.application.port} yet" in json.loads(fast)["detail"]
    assert 300 <= fast_ago <= slow_ago < 400
    listens = Application(port=gate.application.port)
    try:
        assert [gate.call(method=method).status_code for method in ("POST", "GET")] == [200, 200]
    finally:
        listens.close()


def test_refusals_have_their_reasons(gate: Gate) -> None:
    with gate.cluster.sessions.begin() as session:
        _, eve = people.issue(session, user(session, "eve").user_id, TokenKind.API, "test", expires_at=None)
    until(lambda: gate.call(token=eve).status_code == 403, what="the new token")
    assert gate.call(token=eve).json()["code"] == "not_allowed"
    assert gate.call(token="lse_nosuch").json()["code"] == "not_signed_in"
    bearer = {"Authorization": f"Bearer {gate.token}"}
    assert httpx.post(f"{gate.url}/l/nosuch/", headers=bearer).json()["code"] == "not_found"
    moved = httpx.post(f"{gate.url}/l/app?q=1", headers=bearer)
    assert (moved.status_code, moved.headers["location"]) == (308, "/l/app/?q=1")
    page = httpx.get(f"{gate.url}/l/app/", headers={"Accept": "text/html"})
    assert (page.status_code, "/open/app" in page.text) == (401, True)


def test_a_revocation_and_a_release_are_in_force_and_said(gate: Gate) -> None:
    with gate.cluster.sessions.begin() as session:
        session.execute(sa.update(Token).values(revoked_at=now(session)))
    until(lambda: gate.call().status_code == 401, what="the revocation")
    with gate.cluster.sessions.begin() as session:
        session.execute(sa.update(Token).values(revoked_at=None))
    until(lambda: gate.call().status_code == 200, what="the way back")
    gate.cluster.release(gate.lease.id)
    stopping = until(lambda: (one := gate.call()).status_code == 503 and one, what="the stop")
    assert stopping.json()["code"] == "not_running"


def test_both_ways_are_one_account_and_what_was_carried_is_activity(gate: Gate) -> None:
    with gate.cluster.sessions() as session:
        before = session.get(Traffic, gate.lease.id)
        had = before.requests_total if before else 0
    for method in ("POST", "POST", "POST", "GET"):
        gate.call(method=method)

    def counted() -> bool:
        with gate.cluster.sessions() as session:
            row = session.get(Traffic, gate.lease.id)
            signal = session.get(Signal, (gate.lease.id, "endpoint"))
            return (
                row is not None
                and signal is not None
                and row.requests_total - had >= 4
                and bool(signal.active_at)
            )

    until(counted, what="the counts")
    with gate.cluster.sessions() as session:
        assert session.get_one(Traffic, gate.lease.id).bytes_out_total > 20


def test_a_websocket_goes_the_built_in_way_and_passes(gate: Gate) -> None:
    gate.application.answer = lambda _: [
        (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        ),
        b"\x81\x05hello",
    ]
    with socket.create_connection(("127.0.0.1", gate.settings.gateway_port), 5) as plain:
        plain.settimeout(5)
        plain.sendall(
            b"GET /l/app/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Authorization: Bearer %b\r\n\r\n" % gate.token.encode()
        )
        answer = b""
        while b"hello" not in answer and (part := plain.recv(4096)):
            answer += part
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\x81\x05hello")
    assert carried(gate.application.seen[0]) == "built-in"
