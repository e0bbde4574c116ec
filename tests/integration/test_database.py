"""Connections that are kept, on a real PostgreSQL."""

from __future__ import annotations

import os
import resource
import socket
import threading
from collections.abc import Iterator
from typing import cast

import psycopg
import pytest
import sqlalchemy as sa

from leasing import database
from leasing.database import Listener, create_engine
from tests.support.stack import until


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


def test_a_server_whose_machine_is_gone_is_missed_soon(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        driver = cast("psycopg.Connection[object]", connection.connection.dbapi_connection)
        with socket.socket(fileno=os.dup(driver.fileno())) as way:
            assert way.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            asked_from, every = (
                way.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
            )
            assert asked_from + every * way.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) <= 30
            assert 0 < way.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 30_000
    engine.dispose()


def test_a_server_that_takes_no_writes_yet_is_waited_for(engine: sa.Engine, database_url: str) -> None:
    """As a standby that is about to take over: to read from it would be well, and every write would fail."""
    name = sa.make_url(database_url).database
    listener = Listener(database_url, "channel", "test-listen")
    heard = threading.Event()

    def hear() -> None:
        for _ in listener.payloads():
            heard.set()

    with psycopg.connect(database.plain_url(database_url), autocommit=True) as other:
        other.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
        with pytest.raises(sa.exc.OperationalError, match="read-only"), engine.connect():
            pass
        thread = threading.Thread(target=hear)
        thread.start()
        assert not heard.wait(0.7), "what it hears there it could do nothing about"
        other.execute("SET default_transaction_read_only = off")
        other.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = off'.encode())
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1
    assert heard.wait(10)
    listener.stop()
    thread.join(10)
    assert not thread.is_alive()
    engine.dispose()


@pytest.fixture
def busy() -> Iterator[None]:
    """A process with a thousand connections already, as a gateway may have: the next ones have high numbers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    yield
    for one in held:
        os.close(one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_busy_process_still_finds_its_way_to_the_database(engine: sa.Engine, busy: None) -> None:
    for _ in range(2):
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1
    engine.dispose()


def test_a_busy_process_is_notified_and_can_be_stopped(database_url: str, busy: None) -> None:
    listener = Listener(database_url, "channel", "test-listen")
    heard: list[str] = []

    def hear() -> None:
        for payload in listener.payloads():
            heard.append(payload)  # noqa: PERF402 - one by one, as they come

    thread = threading.Thread(target=hear)
    thread.start()
    with psycopg.connect(database.plain_url(database_url), autocommit=True) as other:
        until(lambda: heard == [""] or not thread.is_alive(), what="the listener")
        other.execute("NOTIFY channel, 'news'")
    until(lambda: heard == ["", "news"] or not thread.is_alive(), what="the news")
    listener.stop()
    thread.join(10)
    assert heard == ["", "news"]
    assert not thread.is_alive()
