"""Where the api listens, and that it notices who is gone."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from api import server
from leasing.errors import HostError
from tests.support.api import Served, application, served, token
from tests.support.cluster import Cluster
from tests.support.postgres import TestDatabases


@pytest.fixture(scope="module")
def cluster(databases: TestDatabases) -> Iterator[Cluster]:
    with databases.migrated() as url, Cluster.opened(url) as made:
        yield made


@pytest.fixture(scope="module")
def api(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(cluster, tmp_path_factory.mktemp("api"), listen="localhost") as made:
        yield made


def accepted_from(caller: tuple[str, int]) -> socket.socket:
    """The api's end of the connection from there: this process serves it."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile, no socket, or one that is not connected
            if not str(entry.readlink()).startswith("socket:"):
                continue
            found = socket.socket(fileno=os.dup(int(entry.name)))
            with suppress(OSError):
                if found.getpeername()[:2] == caller[:2]:
                    return found
            found.close()
    raise AssertionError(f"nothing here is connected with {caller}")


def test_a_caller_that_vanishes_without_a_word_is_noticed(api: Served, cluster: Cluster) -> None:
    path, ask = f"/leases/{cluster.run().id}/events", {"Accept": "text/event-stream"}
    with (
        api.client(token(cluster, cluster.ada)) as ada,
        ada.stream("GET", path, headers=ask) as answer,
        accepted_from(answer.extensions["network_stream"].get_extra_info("client_addr")) as ours,
    ):
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        probing = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [ours.getsockopt(socket.IPPROTO_TCP, option) for option in probing] == [30, 10, 3]


def test_every_address_of_a_host_name_is_listened_on(api: Served) -> None:
    found = socket.getaddrinfo("localhost", api.settings.port, type=socket.SOCK_STREAM)
    for host in {f"[{address[0]}]" if ":" in str(address[0]) else address[0] for *_, address in found}:
        assert httpx.get(f"http://{host}:{api.settings.port}/healthz").status_code == 200


def test_an_address_that_cannot_be_listened_on_is_said(api: Served, cluster: Cluster, tmp_path: Path) -> None:
    for changed, said in (
        ({}, "Address already in use"),
        ({"listen": "192.0.2.1"}, "Cannot assign requested address"),
    ):
        settings = api.settings.model_copy(update={"state_dir": tmp_path, **changed})
        app = application(cluster, settings)
        with pytest.raises(HostError, match=said):
            server.run(app, settings, cluster.sessions, threading.Event())
