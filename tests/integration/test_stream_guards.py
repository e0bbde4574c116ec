"""Whoever looks after a stream: what fails in that look never leaves the stream without one. And how many there are of
each user, however they end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
from sqlalchemy.exc import InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from api.streams import access, kept, room
from leasing.drivers.fake_streams import ExecStream, LogStream
from leasing.errors import EngineDown, NotAllowed
from leasing.model import Lease
from leasing.states import Role
from tests.support.api import Served, served, token
from tests.support.cluster import Cluster
from tests.support.postgres import TestDatabases
from tests.support.stack import until

Ended = Callable[[], bool]


@pytest.fixture(scope="module")
def cluster(databases: TestDatabases) -> Iterator[Cluster]:
    """One for all: each test has leases of its own."""
    with databases.migrated() as url, Cluster.opened(url) as made:
        yield made


@pytest.fixture(scope="module")
def api(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch, served(cluster, tmp_path_factory.mktemp("api")) as made:
        patch.setattr(access, "RECHECK_SECONDS", 0.05)
        yield made


@pytest.fixture
def ada(api: Served, cluster: Cluster) -> Iterator[httpx.Client]:
    with api.client(token(cluster, cluster.ada)) as client:
        yield client


class Looks:
    """In place of the look at who may: raises what it is told to, and counts."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.count = 0

    def __call__(self, *_: object) -> NoReturn:
        self.count += 1
        raise self.error


@contextmanager
def output(api: Served, cluster: Cluster, ada: httpx.Client, lease: Lease) -> Iterator[Ended]:
    cluster.driver.say(cluster.container(lease.id), b"hello\n")
    with ada.stream("GET", f"/leases/{lease.id}/logs", params={"follow": True}) as answer:
        pieces = answer.iter_text()
        assert next(pieces) == "hello\n"
        yield lambda: list(pieces) == []


@contextmanager
def shell(api: Served, cluster: Cluster, ada: httpx.Client, lease: Lease, kind: str) -> Iterator[Ended]:
    with connect(
        f"{api.url.replace('http', 'ws')}/api/v1/leases/{lease.id}/{kind}",
        additional_headers={"Authorization": ada.headers["Authorization"]},
        compression=None,
    ) as socket:
        socket.send(b"hi")
        while socket.recv(10) != b"hi":
            pass
        yield lambda: json.loads(list(socket)[-1])["exit_code"] == 129


@contextmanager
def opened(api: Served, cluster: Cluster, ada: httpx.Client, kind: str) -> Iterator[Ended]:
    """A stream that flows; what is yielded waits for its end."""
    lease = cluster.run()
    with (
        output(api, cluster, ada, lease) if kind == "logs" else shell(api, cluster, ada, lease, kind)
    ) as ended:
        yield ended


STREAMS = pytest.mark.parametrize("kind", ["logs", "terminal", "terminals"])


@STREAMS
@pytest.mark.parametrize(
    "error", [PoolTimeout("no connection to spare"), InterfaceError("", {}, Exception())]
)
def test_what_the_database_cannot_tell_is_asked_again(
    api: Served,
    cluster: Cluster,
    ada: httpx.Client,
    kind: str,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with opened(api, cluster, ada, kind) as ended:
        looks = Looks(error)
        monkeypatch.setattr(access, "find", looks)
        until(lambda: looks.count > 2, what="looks that go on")
        looks.error = NotAllowed("no longer")
        assert ended()


@STREAMS
def test_a_look_that_fails_ends_the_stream(
    api: Served, cluster: Cluster, ada: httpx.Client, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(api, cluster, ada, kind) as ended:
        looks = Looks(RuntimeError("nobody thought of that"))
        monkeypatch.setattr(access, "find", looks)
        assert ended()
        assert looks.count == 1


@STREAMS
def test_what_is_taken_away_ends_a_stream_at_once(
    api: Served, cluster: Cluster, ada: httpx.Client, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its notification: nobody looks by themselves for longer than the test would wait."""
    monkeypatch.setattr(access, "RECHECK_SECONDS", 60.0)
    made = ada.post("/tokens", json={"label": "ci"}).json()
    with api.client(api.user(f"boss-{kind}", Role.ADMIN)) as boss:
        with api.client(made["secret"]) as ci, opened(api, cluster, ci, kind) as ended:
            assert ada.delete(f"/tokens/{made['id']}").status_code == 204
            assert ended()
        with opened(api, cluster, ada, kind) as ended:
            assert boss.patch("/users/ada", json={"disabled": True}).status_code == 200
            assert ended()
        assert boss.patch("/users/ada", json={"disabled": False}).status_code == 200


WAYS = (
    ("GET", "/leases/{lease}/logs"),
    ("GET", "/leases/{lease}/files"),
    ("GET", "/leases/{lease}/files/list"),
    ("GET", "/leases/{lease}/files/content?path=a"),
    ("PUT", "/leases/{lease}/files"),
    ("GET", "/workspaces/data/export"),
)
SOCKETS = ("terminal", "terminals", "tunnel?key=ssh-ed25519%20AAAA")


def said(api: Served, client: httpx.Client, lease: Lease, way: str) -> dict[str, object]:
    """The first that a WebSocket says."""
    with connect(
        f"{api.url.replace('http', 'ws')}/api/v1/leases/{lease.id}/{way}",
        additional_headers={"Authorization": client.headers["Authorization"]},
        compression=None,
    ) as socket:
        found: dict[str, object] = json.loads(socket.recv(10))
        return found


def nobody(api: Served) -> None:
    until(lambda: api.app.state.stream_room.open == {}, what="room for all", seconds=15)


def test_what_one_user_may_have_leaves_room_for_the_others(
    api: Served, cluster: Cluster, ada: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_OF_ONE", 2)
    lease = cluster.run(workspace="data")
    with (
        api.client(api.user("root", Role.ADMIN)) as root,
        opened(api, cluster, ada, "logs"),
        opened(api, cluster, ada, "terminal"),
    ):
        for method, path in WAYS:
            refused = ada.request(method, path.format(lease=lease.id))
            assert (refused.status_code, refused.json()["code"]) == (403, "over_quota"), path
            assert "2 streams" in refused.json()["detail"]
            assert "End some" in refused.json()["hint"]
        for way in SOCKETS:
            assert said(api, ada, lease, way)["error"] == "over_quota", way
        assert root.get(f"/leases/{lease.id}/logs").status_code == 200
        assert root.get(f"/leases/{lease.id}/files/list").status_code == 200
    nobody(api)
    assert ada.get(f"/leases/{lease.id}/logs").status_code == 200
    nobody(api)


@STREAMS
@pytest.mark.parametrize("end", ["left", "revoked"])
def test_however_a_stream_ends_its_room_is_free_once(
    api: Served,
    cluster: Cluster,
    ada: httpx.Client,
    kind: str,
    end: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept, "KEPT_SECONDS", 0.1)
    made = ada.post("/tokens", json={"label": "ci"}).json()
    with api.client(made["secret"]) as ci, opened(api, cluster, ci, kind) as ended:
        assert api.app.state.stream_room.open == {cluster.ada.user_id: 1}
        if end == "revoked":
            assert ada.delete(f"/tokens/{made['id']}").status_code == 204
            assert ended()
    nobody(api)


def test_an_engine_that_goes_gives_the_room_back(
    api: Served, cluster: Cluster, ada: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, at the first byte, or with something else inside than what was asked for."""
    lease = cluster.run(workspace="broken")
    assert "error" in said(api, ada, lease, SOCKETS[2]), "nothing inside speaks SSH"
    nobody(api)
    with monkeypatch.context() as patch:
        patch.setattr(LogStream, "__next__", Looks(EngineDown("gone")))
        patch.setattr(ExecStream, "read", Looks(EngineDown("gone")))
        assert "ends here: gone" in ada.get(f"/leases/{lease.id}/logs").text
        for way in SOCKETS:
            with suppress(ConnectionClosed):
                said(api, ada, lease, way)
        nobody(api)
    monkeypatch.setattr(cluster.driver.knobs, "down", True)
    for method, path in WAYS[:-1]:
        assert ada.request(method, path.format(lease=lease.id)).status_code in (422, 502), path
    for way in SOCKETS:
        assert said(api, ada, lease, way)["error"] == "engine_down", way
    nobody(api)


def test_a_stop_gives_all_room_back(cluster: Cluster, tmp_path: Path) -> None:
    with served(cluster, tmp_path) as other, other.client(token(cluster, cluster.ada)) as ada:
        with ExitStack() as streams, suppress(ConnectionClosed):
            for kind in ("logs", "terminal", "terminals"):
                streams.enter_context(opened(other, cluster, ada, kind))
            assert other.app.state.stream_room.open == {cluster.ada.user_id: 3}
            assert other.stop(8)
        assert other.app.state.stream_room.open == {}
