"""What there is at one moment: rows of one database snapshot, and containers by the engines' own word.

Invariants are functions of a picture and nothing else, so that each can be shown to find what it looks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import docker
import psycopg
import requests

from leasing import names
from leasing.drivers.protocol import LABEL_INSTALLATION
from tests.chaos.world import World

Row = Mapping[str, Any]

# Leases that ended and were found in order are not read again: in a long run they are nearly all.
OPEN = "(state <> 'ended' OR NOT (id = ANY (%(sealed)s)))"
TABLES = {
    "lease": f"SELECT * FROM lease WHERE {OPEN}",
    "run": f"SELECT run.* FROM run JOIN lease ON lease.id = run.lease_id WHERE {OPEN.replace('id', 'lease.id')}",
    "allocation": "SELECT allocation.*, run.lease_id, run.generation FROM allocation JOIN run ON run.id = run_id "
    f"JOIN lease ON lease.id = run.lease_id WHERE {OPEN.replace('id', 'lease.id')}",
    "event": "SELECT id, at, lease_id, kind, from_state, to_state, reason, actor FROM event WHERE lease_id IN "
    f"(SELECT id FROM lease WHERE {OPEN}) ORDER BY id",
    "node": "SELECT * FROM node",
    "node_usage": "SELECT * FROM node_usage",
    "device": "SELECT * FROM device",
    "device_usage": "SELECT * FROM device_usage",
    "workspace": "SELECT * FROM workspace",
    "warm": "SELECT * FROM warm",
    "notice": f"SELECT * FROM notice WHERE lease_id IN (SELECT id FROM lease WHERE {OPEN})",
    "device_hour": "SELECT * FROM device_hour",
    "users": "SELECT id, name FROM users",
}
SESSIONS = """
    SELECT pid, application_name, state, state_change::text AS since, query FROM pg_stat_activity
    WHERE state LIKE 'idle in transaction%' AND application_name <> 'chaos'
"""


@dataclass(frozen=True)
class Box:
    """A real container."""

    id: str
    name: str
    state: str
    labels: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Its inspection: what it was created with, which never changes. Empty if it went before it was looked at."""

    @property
    def alive(self) -> bool:
        return self.state in ("running", "paused", "restarting")

    @property
    def devices(self) -> list[str]:
        asked = self.facts.get("HostConfig", {}).get("DeviceRequests") or []
        return [uuid for one in asked for uuid in one["DeviceIDs"] or ()]


@dataclass(frozen=True)
class Engine:
    """One engine's own word."""

    boxes: Sequence[Box] = ()
    networks: Sequence[str] = ()
    volumes: Sequence[str] = ()
    kept: Sequence[str] = ()
    """Tags of images that hold leases' files."""


@dataclass(frozen=True)
class Picture:
    """Rows by table; engines by node name, without those that do not answer."""

    installation: str
    rows: Mapping[str, Sequence[Row]]
    engines: Mapping[str, Engine] = field(default_factory=dict)
    sessions: Sequence[Row] = ()
    """Connections that are idle in a transaction just now."""

    def __getitem__(self, table: str) -> Sequence[Row]:
        return self.rows.get(table, ())

    @cached_property
    def leases(self) -> dict[Any, Row]:
        return {row["id"]: row for row in self["lease"]}

    @cached_property
    def node_names(self) -> dict[Any, str]:
        return {row["id"]: row["name"] for row in self["node"]}

    def container(self, lease_id: Any, generation: int) -> str:
        return names.container(self.installation, lease_id, generation)

    def boxes(self, node_id: Any) -> dict[str, Box] | None:
        """A node's containers by name; None while its engine does not answer."""
        engine = self.engines.get(self.node_names[node_id])
        return None if engine is None else {box.name: box for box in engine.boxes}

    @cached_property
    def open_runs(self) -> list[Row]:
        return [row for row in self["run"] if row["released_at"] is None]


class Camera:
    """Takes pictures of a world. Remembers what containers were created with, and which leases are done with."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._clients: dict[str, docker.APIClient] = {}
        self._pool = ThreadPoolExecutor(4)
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self.sealed: set[Any] = set()

    def close(self) -> None:
        self._pool.shutdown()
        for client in self._clients.values():
            client.close()
        if self._connection is not None:
            self._connection.close()

    def take(self) -> Picture | None:
        """None while the database is away. Engines are looked at before the rows."""
        looks = {
            name: self._pool.submit(self._engine, name)
            for name in self._world.places
            if self._world.answers(name)
        }
        engines = {name: found for name, look in looks.items() if (found := look.result()) is not None}
        try:
            rows, idle = self._rows()
        except psycopg.OperationalError:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return None
        return Picture(self._world.installation, rows, engines, idle)

    def _rows(self) -> tuple[dict[str, list[Row]], list[Row]]:
        if self._connection is None or self._connection.closed:
            self._connection = self._world.connect()
        connection = self._connection
        sealed = {"sealed": list(self.sealed)}
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            rows: dict[str, list[Row]] = {
                name: list(connection.execute(query.encode(), sealed)) for name, query in TABLES.items()
            }
        return rows, list(connection.execute(SESSIONS))

    def _engine(self, name: str) -> Engine | None:
        place = self._world.places[name]
        client = self._clients.get(name)
        try:
            if client is None:
                client = docker.APIClient(base_url=place.engine.address, timeout=3)
                self._clients[name] = client
            own = {"label": f"{LABEL_INSTALLATION}={self._world.installation}"}
            listed = client.containers(all=True, filters=own)
            return Engine(
                boxes=[self._box(client, one) for one in listed],
                networks=[one["Name"] for one in client.networks(filters=own)],
                volumes=[one["Name"] for one in client.volumes(filters=own)["Volumes"] or ()],
                kept=[tag for one in client.images(filters=own) for tag in one["RepoTags"] or (one["Id"],)],
            )
        except (requests.RequestException, docker.errors.DockerException, OSError):
            return None

    def _box(self, client: docker.APIClient, listed: Mapping[str, Any]) -> Box:
        container_id, state = listed["Id"], listed["State"]
        # an engine that was killed while it started a container may list it as exited for ever, and yet run it
        if container_id not in self._facts or state == "exited":
            try:
                self._facts[container_id] = client.inspect_container(container_id)
                state = self._facts[container_id]["State"]["Status"]
            except docker.errors.NotFound:
                self._facts.setdefault(container_id, {})
        return Box(
            container_id,
            (listed["Names"] or ["/"])[0].lstrip("/"),
            state,
            listed["Labels"] or {},
            self._facts[container_id],
        )
