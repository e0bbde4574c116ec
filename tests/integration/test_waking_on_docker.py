"""A call wakes a lease on a real engine, and its application answers with the files that it had."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from api.gateway import server
from leasing.model import TokenKind
from leasing.reclaim import Rule
from leasing.service import people, suspension
from leasing.settings.core import CoreSettings
from leasing.settings.docker import DockerSettings
from leasing.settings.gateway import GatewaySettings
from leasing.states import SuspendReason
from tests.support.cluster import Cluster, on_docker
from tests.support.images import BUSYBOX
from tests.support.stack import free_port, until

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]
SERVE = ["sh", "-c", "echo run >>/tmp/runs; sleep 1; exec httpd -f -p 8000 -h /tmp"]
"""Its application takes a second to be up."""


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with on_docker(database_url) as made:
        yield made


def test_a_call_goes_on_with_the_lease_s_files(cluster: Cluster, tmp_path: Path) -> None:
    lease = cluster.run(
        name="app",
        image=BUSYBOX,
        cpus="0.5",
        port=8000,
        command=SERVE,
        endpoint={"wake": True, "cache": "60s"},
    )
    with cluster.sessions.begin() as session:
        _, token = people.issue(session, cluster.ada.user_id, TokenKind.API, "test", expires_at=None)
    settings, stop = CoreSettings(state_dir=tmp_path, gateway_port=free_port()), threading.Event()
    thread = threading.Thread(
        target=server.run,
        args=(settings, GatewaySettings(poll_seconds=0.3)),
        kwargs={
            "sessions": cluster.sessions, "url": cluster.url, "networks": [DockerSettings().network_pool], "stop": stop,
        },
    )  # fmt: skip
    thread.start()

    def ask(query: str = "") -> httpx.Response:
        return httpx.get(
            f"{settings.gateway_url}/l/app/runs{query}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=40,
        )

    def answers() -> bool:
        try:
            return ask().status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(answers, what="the first run's answer")
        assert ask().text == "run\n"
        cluster.change(
            lease.id,
            lambda session, row, at: suspension.take_back(
                session, row, SuspendReason.IDLE, rule=Rule(), now=at, actor="reclaimer", message="idle"
            ),
        )
        cluster.work()
        assert cluster.lease(lease.id).state == "suspended"
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(ask, "?again") for _ in range(3)]  # none that came on a beat until now
            until(lambda: cluster.lease(lease.id).state == "queued", what="the waking")
            cluster.plan()
            cluster.work()
            told = [one.result(40) for one in asked]
        assert {(one.status_code, one.text) for one in told} == {(200, "run\nrun\n")}
        assert sorted(one.headers["x-leasing-cache"] for one in told) == ["hit", "hit", "miss"], (
            "nothing of the last run is left, and the new one was asked once"
        )
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
