"""The shell channel on a real engine: open terminals get a line, and the container's own file says what will happen."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from leasing.drivers.docker import DockerDriver
from leasing.settings.docker import DockerSettings
from leasing.settings.notify import NotifySettings
from scheduler.delivery.postman import Postman
from scheduler.reconcile import notices
from scheduler.reconcile.outbox import Outbox
from tests.support.cluster import Cluster, on_docker
from tests.support.images import BUSYBOX
from tests.support.stack import until
from tests.support.warned import notices_of, quiet_since, reclaimer

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with on_docker(database_url) as made:
        yield made


def test_an_open_terminal_and_the_info_file_are_told(cluster: Cluster) -> None:
    lease = cluster.run(name="train", image=BUSYBOX, command=["sleep", "600"], idle_timeout="1h", ttl="8h")
    quiet_since(cluster, lease, timedelta(hours=1))
    reclaimer(cluster).run_once()
    driver = DockerDriver("", DockerSettings())
    terminal = driver.exec(cluster.container(lease.id), ["sh"], tty=True)
    seen = bytearray()

    def watch() -> None:
        while piece := terminal.read():
            seen.extend(piece)

    threading.Thread(target=watch, daemon=True).start()
    until(lambda: b"$ " in seen, what="the prompt")
    settings = NotifySettings()
    postman = Postman(
        cluster.sessions, cluster.fleet, cluster.installation, settings, url="http://x", keys=None
    )
    Outbox(cluster.sessions, postman, settings).run_once()
    until(lambda: b"*** train is idle" in seen, what="the line")
    assert b"What helps: lease extend train ***" in seen
    told = driver.run(cluster.container(lease.id), ["cat", "/run/lease/info.json"], seconds=5)
    assert json.loads(told.output)["warning"].startswith("train is idle")
    assert all(one.delivered_at for one in notices_of(cluster, lease.id))

    with cluster.sessions.begin() as session:
        session.get_one(type(lease), lease.id).reclaim_at = None  # it is active again
    notices.run_once(cluster.sessions, cluster.fleet, cluster.installation)
    told = driver.run(cluster.container(lease.id), ["cat", "/run/lease/info.json"], seconds=5)
    assert "warning" not in json.loads(told.output)
    terminal.close()
    driver.close()
