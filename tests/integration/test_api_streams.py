"""Events, logs and terminals over real sockets: they resume, end, and stop for who may no longer watch."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psycopg
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from api import server
from api.streams import access, events, room
from leasing.database import plain_url
from leasing.model import Lease, Signal
from leasing.sdk.client import Client
from tests.support.api import Served, served, token
from tests.support.cluster import Cluster
from tests.support.stack import until

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


@pytest.fixture
def api(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(access, "RECHECK_SECONDS", 0.1)
    with served(cluster, tmp_path) as made:
        yield made


@pytest.fixture
def ada(api: Served, cluster: Cluster) -> Iterator[httpx.Client]:
    with api.client(token(cluster, cluster.ada)) as client:
        yield client


def told(lines: Iterator[str], *, until_kind: str) -> list[tuple[int, str]]:
    """(id, kind) of each event up to the first of that kind."""
    found, number = [], 0
    for line in lines:
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("event: "):
            found.append((number, line[7:]))
        elif line.startswith("data: ") and found[-1][1] == until_kind:
            facts = json.loads(line[6:])
            assert (facts["id"], facts["kind"]) == found[-1]
            break
    return found


def test_a_follower_sees_each_change_as_it_comes_and_the_end(cluster: Cluster, ada: httpx.Client) -> None:
    lease = cluster.ask()
    with ada.stream("GET", f"/leases/{lease.id}/events", headers=STREAM) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert [kind for _, kind in told(lines, until_kind="lease.queued")] == ["lease.queued"]
        cluster.plan()
        cluster.work()
        began = time.monotonic()
        kinds = [kind for _, kind in told(lines, until_kind="lease.running")]
        assert kinds == ["lease.placed", "lease.starting", "lease.running"]
        assert time.monotonic() - began < events.HEARTBEAT_SECONDS, "by a notification's way"
        cluster.release(lease.id)
        cluster.work()
        assert [kind for _, kind in told(lines, until_kind="lease.ended")] == [
            "lease.stopping",
            "lease.ended",
        ]
        assert not [line for line in lines if line]


def test_one_who_comes_back_misses_nothing_and_repeats_nothing(cluster: Cluster, ada: httpx.Client) -> None:
    lease = cluster.run()
    path = f"/leases/{lease.id}/events"
    with ada.stream("GET", path, headers=STREAM) as answer:
        first = told(answer.iter_lines(), until_kind="lease.starting")
    cluster.release(lease.id)
    cluster.work()
    with ada.stream("GET", path, headers=STREAM | {"Last-Event-ID": str(first[-1][0])}) as answer:
        rest = told(answer.iter_lines(), until_kind="lease.ended")
    assert [kind for _, kind in first + rest] == [
        f"lease.{state}" for state in ("queued", "placed", "starting", "running", "stopping", "ended")
    ]
    over = ada.get(path, headers=STREAM | {"Last-Event-ID": str(rest[-1][0])})
    assert over.status_code == 204
    assert ada.get(path, headers=STREAM | {"Last-Event-ID": "1; drop"}).status_code == 422


def test_followers_share_one_database_connection(cluster: Cluster, ada: httpx.Client) -> None:
    lease = cluster.run()
    streams = [ada.stream("GET", f"/leases/{lease.id}/events", headers=STREAM) for _ in range(20)]
    lines = [one.__enter__().iter_lines() for one in streams]
    for one in lines:
        told(one, until_kind="lease.running")
    with psycopg.connect(plain_url(cluster.url)) as connection:
        listeners = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'leasing-api-listen'"
        ).fetchone()
    assert listeners == (1,)
    cluster.release(lease.id)
    cluster.work()
    for one in lines:
        assert told(one, until_kind="lease.ended")[-1][1] == "lease.ended"
    for stream in streams:
        stream.__exit__(None, None, None)


def test_a_quiet_stream_says_that_it_is_still_there(
    cluster: Cluster, ada: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.05)
    lease = cluster.run()
    with ada.stream("GET", f"/leases/{lease.id}/events", headers=STREAM) as answer:
        assert next(line for line in answer.iter_lines() if line.startswith(":")) == ": still here"


def test_events_outlive_the_listener_s_connection(cluster: Cluster, ada: httpx.Client) -> None:
    lease = cluster.run()
    with ada.stream("GET", f"/leases/{lease.id}/events", headers=STREAM) as answer:
        lines = answer.iter_lines()
        told(lines, until_kind="lease.running")
        with psycopg.connect(plain_url(cluster.url), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'leasing-api-listen'"
            )
        cluster.release(lease.id)
        cluster.work()
        assert told(lines, until_kind="lease.ended")[-1][1] == "lease.ended"


def test_a_revoked_token_s_streams_end(api: Served, cluster: Cluster, ada: httpx.Client) -> None:
    lease = cluster.run()
    container = cluster.container(lease.id)
    cluster.driver.say(container, b"hello\n")
    made = ada.post("/tokens", json={"label": "ci"}).json()
    with (
        api.client(made["secret"]) as ci,
        ci.stream("GET", f"/leases/{lease.id}/events", headers=STREAM) as follow,
        ci.stream("GET", f"/leases/{lease.id}/logs", params={"follow": True}) as output,
        terminal(api, made["secret"], lease.name) as shell,
    ):
        lines, pieces = follow.iter_lines(), output.iter_text()
        told(lines, until_kind="lease.running")
        assert next(pieces) == "hello\n"
        shell.send(b"hi")
        assert shell.recv(10) == b"hi"
        assert ada.delete(f"/tokens/{made['id']}").status_code == 204
        assert list(pieces) == []
        assert json.loads(list(shell)[-1])["exit_code"] == 129
        cluster.release(lease.id)  # wakes the stream, which looks before it tells
        assert not [line for line in lines if line.startswith("data: ")]


def test_output_is_followed_until_the_lease_stops(cluster: Cluster, ada: httpx.Client) -> None:
    lease = cluster.run()
    container = cluster.container(lease.id)
    cluster.driver.say(container, b"one\ntwo\nthree\n")
    assert ada.get(f"/leases/{lease.name}/logs").text == "one\ntwo\nthree\n"
    assert ada.get(f"/leases/{lease.name}/logs", params={"tail": 1}).text == "three\n"
    with ada.stream("GET", f"/leases/{lease.name}/logs", params={"follow": True, "tail": 2}) as answer:
        pieces = answer.iter_text()
        assert next(pieces) == "two\nthree\n"
        cluster.driver.say(container, b"four\n")
        assert next(pieces) == "four\n"
        cluster.driver.exit(container, 0)
        assert list(pieces) == []


def test_who_leaves_a_quiet_output_leaves_no_thread_behind(
    api: Served, cluster: Cluster, ada: httpx.Client
) -> None:
    lease = cluster.run()
    cluster.driver.say(cluster.container(lease.id), b"one\n")
    limiter = api.app.state.stream_threads
    for _ in range(5):
        with ada.stream("GET", f"/leases/{lease.id}/logs", params={"follow": True}) as answer:
            assert next(answer.iter_text()) == "one\n"
    until(lambda: limiter.borrowed_tokens == 0, what="the end of the readers")


def test_an_ended_lease_s_last_lines_are_kept(cluster: Cluster, ada: httpx.Client) -> None:
    lease = cluster.run()
    cluster.driver.say(cluster.container(lease.id), b"one\nlast words\n")
    cluster.release(lease.id)
    cluster.work()
    assert ada.get(f"/leases/{lease.id}/logs").text == "one\nlast words\n"
    assert ada.get(f"/leases/{lease.id}/logs", params={"tail": 1}).text == "last words\n"
    assert ada.get(f"/leases/{lease.id}/logs", params={"tail": 0}).text == ""
    waiting = cluster.ask()
    refused = ada.get(f"/leases/{waiting.id}/logs")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


def test_a_container_on_its_way_out_has_nothing_to_say(cluster: Cluster, ada: httpx.Client) -> None:
    lease = cluster.run()
    cluster.driver.forget(cluster.container(lease.id))
    answer = ada.get(f"/leases/{lease.id}/logs", params={"follow": True})
    assert (answer.status_code, answer.text) == (200, "")


def test_an_engine_that_is_away_is_said_so(cluster: Cluster, ada: httpx.Client) -> None:
    lease = cluster.run()
    cluster.driver.knobs.down = True
    answer = ada.get(f"/leases/{lease.id}/logs")
    assert (answer.status_code, answer.json()["code"]) == (502, "engine_down")


def terminal(api: Served, secret: str, lease: str, query: str = "", **headers: str) -> ClientConnection:
    own = {"Authorization": f"Bearer {secret}"} if secret else {}
    return connect(
        f"{api.url.replace('http', 'ws')}/api/v1/leases/{lease}/terminal?{query}",
        additional_headers=own | headers, compression=None,
    )  # fmt: skip


def test_a_terminal_carries_bytes_both_ways_and_the_exit_code(
    api: Served, cluster: Cluster, ada: httpx.Client
) -> None:
    lease = cluster.run()
    with terminal(api, token(cluster, cluster.ada), lease.name, "command=cat&columns=100&rows=30") as shell:
        binary = bytes(range(256)) * 1000
        shell.send(binary)
        assert shell.recv(10) == binary
        for odd in ("{", "[]", '{"resize": [0, 0]}', '{"resize": ["a"]}', "[" * 900, "x" * 5000):
            shell.send(odd)  # makes no sense, and is passed over
        shell.send('{"resize": [132, 43]}')
        shell.send(b"still here")
        assert shell.recv(10) == b"still here"
        shell.send('{"eof": true}')
        assert json.loads(shell.recv(10)) == {"exit_code": 0}


def test_typing_is_activity_and_an_open_terminal_that_prints_is_not(api: Served, cluster: Cluster) -> None:
    lease, other = cluster.run(), cluster.run()

    def flushed(one: Lease) -> tuple[float, bool]:
        api.app.state.typed.flush()
        with cluster.sessions() as session:
            signal = session.get_one(Signal, (one.id, "terminal"))
            return signal.value, signal.active_at == signal.seen_at

    with terminal(api, token(cluster, cluster.ada), lease.name, "command=cat") as shell:
        shell.send(b"\x1b[I")  # its window has the focus
        assert shell.recv(10) == b"\x1b[I", "it prints"
        assert flushed(lease) == (0.0, False)
        shell.send(b"ls\r")
        assert shell.recv(10) == b"ls\r"
        assert flushed(lease) == (3.0, True)
        assert flushed(lease) == (0.0, False)
        assert flushed(other) == (0.0, False)


def test_a_terminal_is_refused_with_the_reason(api: Served, cluster: Cluster) -> None:
    lease = cluster.run()
    waiting = cluster.ask()
    eve, mine = api.user("eve"), token(cluster, cluster.ada)
    cookie = {"Cookie": f"leasing_session={mine}"}
    for secret, ref, headers, code in (
        ("", lease.name, {}, "not_signed_in"),
        ("lse_wrong", lease.name, {}, "not_signed_in"),
        (eve, lease.name, {}, "not_allowed"),
        ("", lease.name, cookie, "not_allowed"),
        ("", lease.name, cookie | {"Origin": "http://evil.example"}, "not_allowed"),
        (mine, "nosuch", {}, "not_found"),
        (mine, waiting.name, {}, "conflict"),
    ):
        with terminal(api, secret, ref, **headers) as shell:
            assert json.loads(shell.recv(10))["error"] == code
            with pytest.raises(ConnectionClosed) as closed:
                shell.recv(10)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, code)
    with terminal(api, "", lease.name, **cookie, Origin=api.url) as shell:
        shell.send(b"hi")
        assert shell.recv(10) == b"hi"
    for query in ("columns=0", "rows=many", "command=a%00b"):
        with pytest.raises(InvalidStatus) as refused:
            terminal(api, mine, lease.name, query)
        assert refused.value.response.status_code == 403


def test_many_quiet_terminals_do_not_keep_the_api_from_answering(
    api: Served, cluster: Cluster, ada: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = cluster.run()
    secret = token(cluster, cluster.ada)
    shells = ExitStack()
    for _ in range(60):
        shells.enter_context(terminal(api, secret, lease.name))
    until(lambda: api.app.state.stream_threads.borrowed_tokens == 60, what="the terminals")
    assert ada.get("/me").status_code == 200
    monkeypatch.setattr(room, "MOST_STREAMS", 60)
    refused = ada.get(f"/leases/{lease.id}/logs")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    with terminal(api, secret, lease.name) as shell:
        assert json.loads(shell.recv(10))["error"] == "unavailable"
    shells.close()
    until(lambda: api.app.state.stream_threads.borrowed_tokens == 0, what="the end of the terminals")


def test_a_stop_ends_every_stream_at_once(
    api: Served, cluster: Cluster, ada: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "GRACE_SECONDS", 60)  # none of them waits for that
    lease = cluster.run()
    cluster.driver.say(cluster.container(lease.id), b"one\n")
    with (
        ada.stream("GET", f"/leases/{lease.id}/events", headers=STREAM) as follow,
        ada.stream("GET", f"/leases/{lease.id}/logs", params={"follow": True}) as output,
        terminal(api, token(cluster, cluster.ada), lease.name) as shell,
    ):
        lines, pieces = follow.iter_lines(), output.iter_text()
        told(lines, until_kind="lease.running")
        assert next(pieces) == "one\n"
        assert api.stop(30)
        assert list(pieces) == []
        assert not [line for line in lines if line.startswith("data: ")]
        with suppress(
            ConnectionClosed
        ):  # the server's farewell (1012) or the shell's exit code, whichever is first
            list(shell)


def test_the_sdk_follows_what_the_api_streams(api: Served, cluster: Cluster) -> None:
    lease = cluster.run()
    cluster.driver.say(cluster.container(lease.id), b"printed\n")
    with Client(api.url, token(cluster, cluster.ada)) as client:
        held = client.lease(lease.name)
        assert "".join(held.logs()) == "printed\n"
        assert held.exec(["true"]) == (0, b"")
        seen = []
        for event in held.events(follow=True):
            seen.append(event.kind)
            if event.kind == "lease.running":
                cluster.release(lease.id)
                cluster.work()
        assert seen[-1] == "lease.ended"
