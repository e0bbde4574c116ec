"""Engines in memory that fall silent, or are damaged, in parts or as a whole."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from leasing.database import now
from leasing.drivers.fake import FakeDriver
from leasing.drivers.protocol import Container
from leasing.errors import DriverError
from leasing.model import Node
from scheduler.fleet import Fleet
from scheduler.reconcile import nodes
from tests.support.cluster import Cluster


class Failing(FakeDriver):
    """Counts who asks it while it is down; what is `damaged` it answers with errors about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.damaged: set[str] = set()
        """Names of containers."""
        self.unlisted = False
        """It cannot say which containers it has."""

    def inspect(self, container_id: str) -> Container | None:
        if container_id in self.damaged:
            raise DriverError("The layer of the container is damaged: input/output error.")
        return super().inspect(container_id)

    def containers(self, installation: str) -> list[Container]:
        if self.unlisted:
            raise DriverError("The list of containers is damaged: input/output error.")
        return super().containers(installation)

    def _up(self) -> threading.RLock:
        self.asked += self.knobs.down
        return super()._up()


def with_failing(cluster: Cluster) -> tuple[Cluster, Failing]:
    """The same cluster, before anything runs there, on such an engine."""
    driver = Failing()
    return replace(cluster, driver=driver, fleet=Fleet(cluster.sessions, lambda *_: driver)), driver


def falls_silent(cluster: Cluster, driver: Failing) -> None:
    """It answers no more, the scheduler has seen it, and that was a while ago."""
    nodes.run_once(cluster.sessions, cluster.fleet)
    driver.knobs.down = True
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Node).values(engine_seen_at=now(session) - timedelta(minutes=1)))
    nodes.run_once(cluster.sessions, cluster.fleet)
    driver.asked = 0
