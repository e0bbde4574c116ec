"""Calls that wake their lease: once however many they are, and they wait until its application listens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.model import Event, Lease, TokenKind
from leasing.reclaim import Rule
from leasing.service import people, suspension
from leasing.states import SuspendReason
from tests.support.cluster import user
from tests.support.gateways import Application, Gate, opened
from tests.support.gateways import ticket as ticket_of
from tests.support.stack import until

LOCAL = """
    CREATE FUNCTION local() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.address := CASE WHEN NEW.address IS NOT NULL THEN '127.0.0.1' END; RETURN NEW; END $$;
    CREATE TRIGGER local BEFORE INSERT OR UPDATE ON run FOR EACH ROW EXECUTE FUNCTION local();
"""
"""The engine in memory gives addresses where nobody is; the application is on loopback."""


@contextmanager
def sleeping(database_url: str, folder: Path, **gateway: object) -> Iterator[Gate]:
    """A gateway in front of a lease that may be woken, and sleeps."""
    with opened(database_url, folder, core=None, **gateway) as gate:
        with gate.cluster.sessions.begin() as session:
            session.execute(sa.text(LOCAL))
            session.get_one(Lease, gate.lease.id).endpoint = {"wake": True}
        sleep(gate)
        yield gate


def sleep(gate: Gate, why: SuspendReason = SuspendReason.IDLE) -> None:
    gate.cluster.change(
        gate.lease.id,
        lambda session, lease, at: suspension.take_back(
            session, lease, why, rule=Rule(), now=at, actor="reclaimer", message="taken"
        ),
    )
    gate.cluster.work()
    assert state(gate) == "suspended"


def state(gate: Gate) -> str:
    return gate.cluster.lease(gate.lease.id).state


def wake_up(gate: Gate) -> None:
    """What the scheduler does, once somebody has asked for it."""
    until(lambda: state(gate) == "queued", what="the waking")
    gate.cluster.plan()
    gate.cluster.work()


def ask(gate: Gate, path: str = "infer", **headers: str) -> httpx.Response:
    said = {"Authorization": f"Bearer {gate.token}"} | headers
    return httpx.post(f"{gate.url}/l/app/{path}", content=b"x" * 100_000, headers=said, timeout=30)


def resumed(gate: Gate) -> list[tuple[str, str]]:
    with gate.cluster.sessions() as session:
        rows = session.execute(
            sa.select(Event.actor, Event.message)
            .where(Event.kind == "lease.queued", Event.from_state == "suspended")
            .order_by(Event.id)
        )
        return [(actor, message) for actor, message in rows]


def test_calls_wake_it_once_and_are_served_when_its_application_listens(
    database_url: str, tmp_path: Path
) -> None:
    with sleeping(database_url, tmp_path) as gate, ThreadPoolExecutor(12) as pool:
        port = gate.application.port
        gate.application.close()  # its application is not up at once, either
        calls: list[Future[httpx.Response]] = [pool.submit(ask, gate) for _ in range(10)]
        wake_up(gate)
        until(lambda: state(gate) == "running", what="the run")
        late = pool.submit(ask, gate)
        assert not any(one.done() for one in calls)
        with closing(Application(port=port)) as again:
            told = [one.result(30) for one in (*calls, late)]
            assert [(one.status_code, one.text) for one in told] == [(200, "hello")] * 11
            bodies = [seen.partition(b"\r\n\r\n")[2] for seen in again.seen if seen.startswith(b"POST")]
            assert bodies == [b"x" * 100_000] * 11
        assert resumed(gate) == [("user:ada", "ada woke it by a call")]
        sleep(gate)
        with gate.cluster.sessions.begin() as session:
            bob = user(session, "bob")
            _, secret = people.issue(session, bob.user_id, TokenKind.API, "test", expires_at=None)
        refused = until(
            lambda: (one := ask(gate, Authorization=f"Bearer {secret}")).status_code == 403 and one,
            what="the token",
        )
        assert refused.json()["code"] == "not_allowed"
        assert state(gate) == "suspended", "who may not call it wakes nobody"


def test_who_waits_too_long_is_told_where_it_stands(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEASING_LIMITS_LEASES_PER_USER", "1")
    with sleeping(database_url, tmp_path, wake_seconds=0.4, wake_calls=2) as gate:
        other = gate.cluster.ask(name="other")
        full = ask(gate)
        assert (full.status_code, full.json()["code"]) == (503, "over_quota")
        assert "lease" in full.json()["detail"]
        gate.cluster.release(other.id)
        with ThreadPoolExecutor(4) as pool:
            until(lambda: ask(gate).json()["code"] == "waking", what="the quota's being free", every=0.5)
            told: list[httpx.Response] = []

            def said(words: str) -> bool:
                return any(words in one.json()["detail"] for one in told)

            def both_said() -> bool:
                told.extend(one.result(10) for one in [pool.submit(ask, gate) for _ in range(4)])
                return said("number 1 in the queue") and said("2 calls wait for it already")

            until(both_said, what="where it stands, and that there are too many")
        assert {(one.status_code, one.json()["code"]) for one in told} == {(503, "waking")}
        assert all(1 <= int(one.headers["retry-after"]) <= 300 for one in told)
        assert len(resumed(gate)) == 1


def test_who_waits_for_a_lease_that_is_given_up_is_told_so(database_url: str, tmp_path: Path) -> None:
    with sleeping(database_url, tmp_path) as gate, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, gate)
        until(lambda: state(gate) == "queued", what="the waking")
        gate.cluster.release(gate.lease.id)
        told = waiting.result(20)
        assert (told.status_code, told.json()["code"]) == (404, "gone")


def test_only_what_fell_asleep_by_itself_is_woken_and_not_by_a_page_that_was_left_open(
    database_url: str, tmp_path: Path
) -> None:
    with sleeping(database_url, tmp_path, wake_seconds=0.3) as gate:
        ticket = ticket_of(gate.cluster, gate.lease)
        entered = httpx.get(f"{gate.url}/l/app/.leasing/enter", params={"ticket": ticket})
        cookie = {"Cookie": f"leasing_endpoint={entered.cookies['leasing_endpoint']}"}

        def page(mode: str, **more: str) -> str:
            headers = cookie | {"Sec-Fetch-Mode": mode} | more
            code = httpx.get(f"{gate.url}/l/app/api/kernels", headers=headers, timeout=10).json()["code"]
            return str(code)

        assert page("cors") == "not_running"
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        assert (
            page("websocket", **upgrade, **{"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}) == "not_running"
        )
        foreign = httpx.post(f"{gate.url}/l/app/", headers=cookie | {"Origin": "http://evil.example"})
        assert foreign.json()["code"] == "not_running"
        assert state(gate) == "suspended"
        assert page("navigate") == "waking"
        wake_up(gate)
        until(lambda: ask(gate).status_code == 200, what="the answer")
        sleep(gate, SuspendReason.EXPIRED)
        until(lambda: ask(gate).status_code == 503, what="the end of its time")
        assert ask(gate).json()["code"] == "not_running"
        assert len(resumed(gate)) == 1


@pytest.mark.parametrize("plane", ["builtin", "haproxy"])
def test_who_goes_away_has_woken_it_all_the_same(database_url: str, tmp_path: Path, plane: str) -> None:
    with sleeping(database_url, tmp_path, plane=plane) as gate:
        gone = threading.Thread(
            target=gate.raw,
            args=(b"GET /l/app/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n\r\n", 0.2),
        )
        gone.start()
        gone.join()
        wake_up(gate)
        until(lambda: ask(gate).status_code == 200, what="the answer")
        with gate.cluster.sessions() as session:
            ends = session.get_one(Lease, gate.lease.id).ends_at
            assert ends is not None
            assert ends > now(session) + timedelta(hours=3), "it goes on with the time that it had left"
