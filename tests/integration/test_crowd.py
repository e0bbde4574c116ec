"""Many ask at one time: each is answered, and none waits for what another holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api import deps
from api.app import CONNECTION_SECONDS, CONNECTIONS
from api.streams.typed import Typed
from leasing.database import create_engine, sessions
from leasing.model import Signal
from tests.support.api import Served, served, token
from tests.support.cluster import Cluster
from tests.support.stack import until


@contextmanager
def opened(
    url: str, folder: Path, *, connections: int = CONNECTIONS, seconds: float = CONNECTION_SECONDS
) -> Iterator[tuple[Served, sa.Engine]]:
    """An api with its own connections, as its process has them."""
    engine = create_engine(url, "leasing-api", pool_size=connections // 2, pool_seconds=seconds)
    try:
        with (
            Cluster.opened(url) as cluster,
            served(replace(cluster, sessions=sessions(engine)), folder) as api,
        ):
            yield api, engine
    finally:
        engine.dispose()


async def crowd(url: str, secret: str, count: int) -> list[int]:
    headers, limits = {"Authorization": f"Bearer {secret}"}, httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=60) as client:
        answers = await asyncio.gather(*(client.get(f"{url}/api/v1/leases") for _ in range(count)))
    return [answer.status_code for answer in answers]


def both(engine: sa.Engine) -> tuple[sa.Connection, sa.Connection] | None:
    with ExitStack() as taken, suppress(PoolTimeout):
        found = taken.enter_context(engine.connect()), taken.enter_context(engine.connect())
        taken.pop_all()
        return found
    return None


def test_a_crowd_is_answered_at_once(database_url: str, tmp_path: Path) -> None:
    with opened(database_url, tmp_path) as (api, _):
        began = time.monotonic()
        for secret, status in (("lse_bogus", 401), (token(api.cluster, api.cluster.ada), 200)):
            assert asyncio.run(crowd(api.url, secret, 150)) == [status] * 150
        assert time.monotonic() - began < 15


def test_who_can_not_be_served_in_time_is_told_so(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deps, "TURN_SECONDS", 0.05)
    with opened(database_url, tmp_path, connections=2, seconds=0.05) as (api, engine):
        one, two = until(lambda: both(engine), what="both connections, between two heartbeats")
        with one, two, api.client("lse_bogus") as client:
            refused = client.get("/leases")
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        api.app.state.units.total_tokens = 1
        api.app.state.units.acquire_on_behalf_of_nowait("somebody")
        with api.client("lse_bogus") as client:
            refused = client.get("/leases")
        assert (refused.status_code, refused.json()["hint"]) == (503, "Try again in a few seconds.")


def test_who_tells_of_itself_outlives_a_time_without_connections(database_url: str, tmp_path: Path) -> None:
    """Were its thread to end, what it has to tell would be lost with it."""
    with opened(database_url, tmp_path, connections=2, seconds=0.05) as (api, engine):
        lease = api.cluster.run()
        typed = Typed(sessions(engine))
        typed.count(lease.id, 3)
        one, two = until(lambda: both(engine), what="both connections, between two heartbeats")
        with one, two:
            typed.flush()
        typed.flush()
        with api.cluster.sessions() as session:
            assert session.get_one(Signal, (lease.id, "terminal")).value == 3
