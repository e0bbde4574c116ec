"""Cached answers through a real gateway: who gets them, how long, and what the application is spared."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.model import Lease, Run, Token, TokenKind, Traffic
from leasing.schema.endpoint import EndpointRequest
from leasing.service import endpoints, people
from monitoring import collector
from tests.support import redis
from tests.support.cluster import user
from tests.support.gateways import Gate, opened
from tests.support.stack import until

JSON = {"Content-Type": "application/json"}


def tell(gate: Gate, **options: object) -> None:
    """Set the endpoint's options, and wait until the gateway acts on them."""
    gate.cluster.change(
        gate.lease.id,
        lambda session, lease, _: endpoints.change(
            session, lease, EndpointRequest.model_validate(options), principal=gate.cluster.ada
        ),
    )


def ask(
    gate: Gate, body: bytes = b'{"x": 1}', token: str | None = None, path: str = "infer"
) -> httpx.Response:
    headers = JSON | {"Authorization": f"Bearer {token or gate.token}"}
    return httpx.post(f"{gate.url}/l/app/{path}", content=body, headers=headers, timeout=10)


def how(answer: httpx.Response) -> str | None:
    said: str | None = answer.headers.get("x-leasing-cache")
    return said


@pytest.fixture(params=["memory", "redis"])
def gate(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[Gate]:
    if request.param == "memory":
        with opened(database_url, tmp_path) as made:
            yield made
    else:
        with redis.serving(tmp_path) as url, opened(database_url, tmp_path, cache_url=url) as made:
            yield made


def test_what_was_answered_is_answered_again_without_the_application(gate: Gate) -> None:
    assert how(ask(gate)) is None, "nothing is kept unasked"
    tell(gate, cache="60s")
    until(lambda: how(ask(gate, b"warm")) == "hit", what="the option")
    gate.application.seen.clear()
    first = ask(gate)
    until(lambda: how(ask(gate)) == "hit", what="the first hit")
    again = ask(gate)
    assert (how(first), how(again), again.text, len(gate.application.seen)) == ("miss", "hit", "hello", 1)
    assert again.headers["age"].isdigit()
    chunked = httpx.post(
        f"{gate.url}/l/app/infer",
        content=iter([b'{"x": ', b"1}"]),
        headers=JSON | {"Authorization": f"Bearer {gate.token}"},
    )
    assert how(chunked) == "hit", "it is the body that counts, not how it came"
    assert how(ask(gate, b"x" * (1024**2 + 1))) is None
    assert gate.application.seen[-1].endswith(b"x" * (1024**2 + 1)), "a long body passes whole"
    _others_and_changes(gate)
    _a_new_run(gate)
    _counts(gate)


def _others_and_changes(gate: Gate) -> None:
    with gate.cluster.sessions.begin() as session:
        _, eve = people.issue(session, user(session, "eve").user_id, TokenKind.API, "test", expires_at=None)
    until(lambda: ask(gate, token=eve).status_code == 403, what="the new token")
    assert httpx.post(f"{gate.url}/l/app/infer", content=b'{"x": 1}', headers=JSON).status_code == 401
    assert gate.call("infer", method="DELETE").status_code == 200
    until(lambda: how(ask(gate)) == "miss", what="the forgetting")
    until(lambda: how(ask(gate)) == "hit", what="the keeping")
    gate.application.answer = lambda _: [
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nContent-Length: 3\r\n\r\nown"
    ]
    assert [how(ask(gate, b"own")) for _ in "abc"] == ["miss"] * 3
    gate.application.answer = lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"]


def _a_new_run(gate: Gate) -> None:
    with gate.cluster.sessions.begin() as session:
        run = session.execute(sa.select(Run)).scalar_one()
        run.generation += 1  # as after a suspension
        session.get_one(Lease, gate.lease.id).shared = True  # of which gateways hear
    until(lambda: how(ask(gate)) == "miss", what="the new run's own answer")


def _counts(gate: Gate) -> None:
    def counted() -> bool:
        with gate.cluster.sessions() as session:
            row = session.get(Traffic, gate.lease.id)
            return row is not None and row.cache_hits_total > 3 and row.cache_misses_total > 3

    until(counted, what="the counts")
    with gate.cluster.sessions() as session:
        text = collector.render(session).decode()
    for name in ("hits", "misses"):
        assert f'leasing_gateway_cache_{name}_total{{lease_id="{gate.lease.id}"}}' in text


def test_equal_calls_wait_for_one_and_who_is_shut_out_meanwhile_gets_nothing(
    database_url: str, tmp_path: Path
) -> None:
    asked, goes_on = threading.Semaphore(0), threading.Event()

    def slowly(head: bytes) -> list[bytes]:
        if b"/slow" in head:
            asked.release()
            assert goes_on.wait(20)
        return [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nslowly"]

    with opened(database_url, tmp_path) as gate, ThreadPoolExecutor(12) as pool:
        with gate.cluster.sessions.begin() as session:
            row, other = people.issue(
                session, gate.cluster.ada.user_id, TokenKind.API, "other", expires_at=None
            )
            token_id = row.id
        gate.application.answer = slowly
        tell(gate, cache="60s")
        until(lambda: how(ask(gate, b"warm", token=other)) == "hit", what="the option and the token")
        first = pool.submit(ask, gate, path="slow")
        assert asked.acquire(timeout=10)
        waiting = [pool.submit(ask, gate, path="slow") for _ in range(8)]
        shut_out = pool.submit(ask, gate, path="slow", token=other)
        until(lambda: ask(gate, b"warm").status_code == 200, what="a call that does not wait")
        with gate.cluster.sessions.begin() as session:
            session.execute(sa.update(Token).where(Token.id == token_id).values(revoked_at=now(session)))
        until(lambda: ask(gate, b"warm", token=other).status_code == 401, what="the revocation")
        goes_on.set()
        told = [one.result(20) for one in (first, *waiting)]
        assert {one.text for one in told} == {"slowly"}
        assert sorted(how(one) or "" for one in told) == ["hit"] * 8 + ["miss"]
        assert shut_out.result(20).status_code == 401
        assert not asked.acquire(blocking=False), "the application was asked once"
