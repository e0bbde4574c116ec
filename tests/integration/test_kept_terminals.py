"""Terminals that outlive the page that shows them, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from api.streams import access, kept
from leasing.drivers.fake_streams import ExecStream
from leasing.model import Lease
from leasing.states import Role
from tests.support.api import Served, served, token
from tests.support.cluster import Cluster
from tests.support.postgres import TestDatabases
from tests.support.stack import until


@pytest.fixture(scope="module")
def cluster(databases: TestDatabases) -> Iterator[Cluster]:
    """One for all: each test has leases of its own."""
    with databases.migrated() as url, Cluster.opened(url) as made:
        yield made


@pytest.fixture(scope="module")
def api(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch, served(cluster, tmp_path_factory.mktemp("api")) as made:
        patch.setattr(access, "RECHECK_SECONDS", 0.05)
        patch.setattr(kept, "SETTLES_SECONDS", 0.3)
        yield made


@pytest.fixture(scope="module")
def secret(cluster: Cluster) -> str:
    return token(cluster, cluster.ada)


def look(api: Served, secret: str, lease: Lease, terminal: str = "", query: str = "") -> ClientConnection:
    return connect(
        f"{api.url.replace('http', 'ws')}/api/v1/leases/{lease.name}/terminals{'/' if terminal else ''}{terminal}"
        f"?{query}",
        additional_headers={"Authorization": f"Bearer {secret}"},
        compression=None,
    )


def said(shell: ClientConnection) -> Any:
    """The next frame, which must be text."""
    frame = shell.recv(10)
    assert isinstance(frame, str), frame
    return json.loads(frame)


def printed(shell: ClientConnection) -> bytes:
    """The next frame, which must be bytes."""
    frame = shell.recv(10)
    assert isinstance(frame, bytes), frame
    return frame


def opened(shell: ClientConnection) -> str:
    first = said(shell)
    assert said(shell) == {"ready": True}
    assert shell.recv(10) == b"", "nothing was printed before"
    return str(first["terminal"])


def process(api: Served, terminal: str) -> ExecStream:
    found: ExecStream = api.app.state.terminals._kept[terminal].process
    return found


def test_it_goes_on_where_it_was_after_a_reload(api: Served, cluster: Cluster, secret: str) -> None:
    lease = cluster.run()
    with look(api, secret, lease, query="columns=100&rows=30") as shell:
        terminal = opened(shell)
        shell.send(b"first ")
        assert shell.recv(10) == b"first "
    process(api, terminal).write(b"meanwhile")
    with look(api, secret, lease, terminal, "columns=132&rows=43") as shell:
        assert said(shell) == {"terminal": terminal}
        past = printed(shell)
        assert said(shell) == {"ready": True}
        shell.send(b" and on")
        rest = b""
        while len(past + rest) < len(b"first meanwhile and on"):
            rest += printed(shell)
        assert past + rest == b"first meanwhile and on"
        assert process(api, terminal).size == (132, 43)
        shell.send('{"eof": true}')
        assert said(shell) == {"exit_code": 0, "reason": ""}
    with look(api, secret, lease, terminal) as shell:
        assert said(shell)["error"] == "not_found", "it was told, and is forgotten"


def test_who_comes_too_late_for_the_end_is_told_it_all_the_same(
    api: Served, cluster: Cluster, secret: str
) -> None:
    lease = cluster.run()
    with look(api, secret, lease) as shell:
        terminal = opened(shell)
    process(api, terminal).write(b"last words")
    process(api, terminal).end_input()
    until(lambda: api.app.state.terminals._kept[terminal].ended, what="its end")
    with look(api, secret, lease, terminal) as shell:
        assert said(shell) == {"terminal": terminal}
        assert shell.recv(10) == b"last words"
        assert said(shell) == {"ready": True}
        assert said(shell) == {"exit_code": 0, "reason": ""}


def test_it_is_shown_in_one_place(api: Served, cluster: Cluster, secret: str) -> None:
    lease = cluster.run()
    with look(api, secret, lease) as here:
        terminal = opened(here)
        with look(api, secret, lease, terminal) as there:
            assert said(there) == {"terminal": terminal}
            assert said(here)["error"] == "taken"
            assert there.recv(10) == b""
            assert said(there) == {"ready": True}
            there.send(b"mine")
            assert there.recv(10) == b"mine"


def test_nobody_else_takes_it_up(api: Served, cluster: Cluster, secret: str) -> None:
    lease = cluster.run()
    with look(api, secret, lease) as shell:
        terminal = opened(shell)
        with look(api, api.user("eve"), lease, terminal) as other:
            assert said(other)["error"] == "not_allowed"
        admin = api.user("boss", Role.ADMIN)
        with look(api, admin, lease, terminal) as other:
            assert said(other)["error"] == "not_found", "who may enter may not look over a shoulder"
        other_lease = cluster.run()
        with look(api, secret, other_lease, terminal) as other:
            assert said(other)["error"] == "not_found"


def test_it_ends_with_the_reason(api: Served, cluster: Cluster, secret: str) -> None:
    lease = cluster.run()
    with look(api, secret, lease) as shell, api.client(secret) as ada:
        terminal = opened(shell)
        cluster.release(lease.id)
        process(api, terminal).close()  # which stopping the container does
        end = said(shell)
        assert end["reason"] == f"Lease '{lease.name}' is stopping: ada released it."

        lease = cluster.run()
        made = ada.post("/tokens", json={"label": "ci"}).json()
        with look(api, made["secret"], lease) as other:
            opened(other)
            assert ada.delete(f"/tokens/{made['id']}").status_code == 204
            assert "no longer enter" in said(other)["reason"]


def test_one_that_nobody_looks_at_is_hung_up_on(
    api: Served, cluster: Cluster, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "KEPT_SECONDS", 0.1)
    lease = cluster.run()
    with look(api, secret, lease) as shell:
        terminal = opened(shell)
        left = process(api, terminal)
    until(lambda: left.exit_code() == 129, what="its end")
    until(lambda: api.app.state.stream_threads.borrowed_tokens == 0, what="the end of its reader")


def test_one_may_have_so_many(
    api: Served, cluster: Cluster, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_EACH", 2)
    lease = cluster.run()
    with look(api, secret, lease) as one, look(api, secret, lease) as two:
        opened(one)
        opened(two)
        with look(api, secret, lease) as three:
            refused = said(three)
            assert refused["error"] == "conflict"
            assert "2 is the most" in refused["detail"]
        two.send('{"eof": true}')
        assert said(two)["exit_code"] == 0
        with look(api, secret, lease) as three:
            opened(three)


def test_a_stop_of_the_platform_is_said(cluster: Cluster, secret: str, tmp_path: Path) -> None:
    lease = cluster.run()
    with served(cluster, tmp_path) as other, look(other, secret, lease) as shell:
        opened(shell)
        assert other.stop(8)
        assert said(shell)["reason"] == "The platform is being restarted."
