"""The platform's own processes on an engine in memory: api and scheduler as `lease serve` starts them.

As a program it is that scheduler: `python -m tests.benchmarks._memory URL`.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import psycopg
import sqlalchemy as sa
from psycopg import sql

from leasing.database import now, plain_url
from leasing.drivers.fake import FakeDriver
from leasing.host.postgres import OwnPostgres
from leasing.migrating import migrate
from leasing.model import Device, TokenKind
from leasing.service import people
from leasing.settings.docker import DockerSettings
from leasing.settings.scheduler import SchedulerSettings
from scheduler.process import Scheduler
from tests.support.cluster import IMAGE, Cluster, user
from tests.support.stack import free_port, until


@dataclass
class Platform:
    """What runs, and how it is reached."""

    postgres: OwnPostgres
    port: int
    tokens: list[str]
    """One user's each."""
    copy: str
    """Address of a database with the same rows, on the same server, that nobody else uses."""


@contextmanager
def running(*, devices: int, users: int) -> Iterator[Platform]:
    """One node with so many devices, and so many users; PostgreSQL as it is installed, with nothing tuned for speed."""
    root = Path(tempfile.mkdtemp(prefix="leasing-benchmark-"))
    root.chmod(0o711)
    postgres = OwnPostgres(root, settings={}, only=None)
    children: list[subprocess.Popen[bytes]] = []
    try:
        postgres.start()
        migrate(postgres.url)
        tokens = _furnished(postgres.url, devices, users)
        copy = _copied(postgres)
        port = free_port()
        environment = os.environ | {
            "LEASING_DATABASE_URL": plain_url(postgres.url),
            "LEASING_STATE_DIR": str(root),
            "LEASING_PORT": str(port),
            "LEASING_LIMITS_LEASES_PER_USER": "10000",
            "LEASING_LIMITS_DEVICES_PER_USER": "10000",
        }
        serve = [sys.executable, "-m", "leasing.cli.app", "serve", "--role", "api"]
        schedule = [sys.executable, "-m", "tests.benchmarks._memory", postgres.url]
        with (root / "platform.log").open("wb") as log:
            children = [
                subprocess.Popen(command, env=environment, stdout=log, stderr=log)
                for command in (serve, schedule)
            ]
        until(lambda: _ready(port), what="the platform", seconds=120)
        yield Platform(postgres, port, tokens, copy)
    except BaseException:
        print((root / "platform.log").read_text()[-8000:])
        raise
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(20)
        postgres.stop()
        shutil.rmtree(root, ignore_errors=True)


def _furnished(url: str, devices: int, users: int) -> list[str]:
    """A node, its devices, and users; a token of each user's."""
    with Cluster.opened(url, devices=devices) as cluster, cluster.sessions.begin() as session:
        later = now(session) + timedelta(
            days=1
        )  # no sampler runs here, and none is to be missed or waited for
        session.execute(sa.update(Device).values(sampled_at=later, cleared_at=later))
        made = [user(session, f"user-{number}") for number in range(users)]
        return [
            people.issue(session, one.user_id, TokenKind.API, "benchmark", expires_at=None)[1] for one in made
        ]


def _copied(postgres: OwnPostgres) -> str:
    address, _, name = postgres.url.rpartition("/")
    with psycopg.connect(postgres.admin_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE replay OWNER leasing TEMPLATE {}").format(sql.Identifier(name))
        )
    return f"{address}/replay"


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def schedule(url: str) -> None:
    """The scheduler's process, as `lease serve --role scheduler` has it but for the engine."""
    logging.basicConfig(level=logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    driver = FakeDriver(images=[IMAGE])
    Scheduler(
        url,
        connect=lambda *_: driver,
        logins=lambda _: None,
        settings=SchedulerSettings(),
        docker=DockerSettings(),
    ).run(stop)


if __name__ == "__main__":
    schedule(sys.argv[1])
