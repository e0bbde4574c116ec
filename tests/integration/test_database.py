"""Connections that are kept, on a real PostgreSQL."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa

from leasing import database
from leasing.database import create_engine


@pytest.fixture
def engine(database_url: str) -> sa.Engine:
    return create_engine(database_url, "test-pool")


def pid(connection: sa.Connection) -> int:
    found: int = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    return found


def test_a_connection_in_constant_use_is_used_again_without_being_asked(engine: sa.Engine) -> None:
    with engine.connect() as first, engine.connect() as second:
        used = {pid(first), pid(second)}
    for _ in range(3):
        with engine.connect() as again:
            assert pid(again) in used
            statements = again.execute(
                sa.text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test-pool'")
            ).scalar_one()
            assert statements == 2
    engine.dispose()


@pytest.mark.parametrize("ping_after", [0.0, 1000.0])
def test_connections_that_the_server_has_left_are_made_anew(
    engine: sa.Engine, database_url: str, ping_after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PING_AFTER_SECONDS", ping_after)
    with engine.connect() as first, engine.connect() as second:
        left = {pid(first), pid(second)}
    with psycopg.connect(database.plain_url(database_url), autocommit=True) as other:
        for one in left:
            assert other.execute("SELECT pg_terminate_backend(%s, 10000)", [one]).fetchone() == (True,)
    with engine.connect() as first, engine.connect() as second:
        assert not {pid(first), pid(second)} & left
    engine.dispose()
