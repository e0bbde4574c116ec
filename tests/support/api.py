"""The api as its own process serves it: real sockets, on a cluster with an engine in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from fastapi import FastAPI

from api import server
from api.app import create_app
from leasing.model import TokenKind
from leasing.schema.cluster import EnvironmentOut
from leasing.service import people
from leasing.service.principal import Principal
from leasing.settings.core import CoreSettings
from leasing.settings.limits import LimitSettings
from leasing.states import Role
from monitoring import collector
from tests.support.cluster import Cluster, user
from tests.support.stack import free_port, until

BASE = EnvironmentOut(
    name="base", title="Base", description="A shell", reference="leasing/base:1", ready=False, port=None
)


def application(cluster: Cluster, settings: CoreSettings) -> FastAPI:
    return create_app(
        settings=settings,
        limits=LimitSettings(leases_per_user=10_000),
        sessions=cluster.sessions,
        url=cluster.url,
        connect=lambda *_: cluster.driver,
        metrics=collector.render,
        catalogue=[BASE],
    )


def token(cluster: Cluster, who: Principal) -> str:
    with cluster.sessions.begin() as session:
        return people.issue(session, who.user_id, TokenKind.API, "test", expires_at=None)[1]


@dataclass
class Served:
    """One api that listens. `stop` ends it, and says whether it did in time."""

    cluster: Cluster
    settings: CoreSettings
    app: FastAPI
    thread: threading.Thread
    stopping: threading.Event

    @property
    def url(self) -> str:
        return self.settings.url

    def user(self, name: str, role: Role = Role.DEVELOPER) -> str:
        """A new user's token."""
        with self.cluster.sessions.begin() as session:
            who = user(session, name, role)
        return token(self.cluster, who)

    def client(self, secret: str) -> httpx.Client:
        return httpx.Client(
            base_url=f"{self.url}/api/v1", headers={"Authorization": f"Bearer {secret}"}, timeout=20
        )

    def stop(self, seconds: float) -> bool:
        self.stopping.set()
        self.thread.join(seconds)
        return not self.thread.is_alive()


@contextmanager
def served(
    cluster: Cluster,
    folder: Path,
    *,
    prepare: Callable[[FastAPI], None] = lambda _: None,
    listen: str = "127.0.0.1",
) -> Iterator[Served]:
    """`prepare` adds to the application before it starts: `web.mount`, for the pages."""
    settings = CoreSettings(state_dir=folder, listen=listen, port=free_port())
    app = application(cluster, settings)
    prepare(app)
    stopping = threading.Event()
    thread = threading.Thread(target=server.run, args=(app, settings, cluster.sessions, stopping))
    thread.start()
    made = Served(cluster, settings, app, thread, stopping)
    try:
        until(lambda: _answers(made), what="the api's first answer", seconds=10)
        yield made
    finally:
        assert made.stop(10), "the api did not stop"


def _answers(api: Served) -> bool:
    try:
        return httpx.get(f"{api.url}/healthz").status_code == 200
    except httpx.TransportError:
        return False
