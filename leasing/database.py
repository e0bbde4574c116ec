"""The way to PostgreSQL: engine, sessions, and waiting for its notifications."""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

EVENTS = "leasing_event"
"""Channel on which every inserted event is announced, as `<lease id or ->:<kind>`. A hint, never the truth."""

GRANTS = "leasing_grants"
"""Channel on which every change to who may reach which endpoint is announced."""

PING_AFTER_SECONDS = 1.0

SERVER: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "target_session_attrs": "read-write",
}
"""In libpq's words. One whose machine is gone says nothing, not even that: found out within half a minute, and not
after the kernel's two hours. One that is a standby still is not taken for what it will be."""

Sessions = sessionmaker[Session]


def driver_url(url: str) -> str:
    """The same address in SQLAlchemy's form, whichever of the usual spellings it came in."""
    for prefix in ("postgresql+psycopg://", "postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def plain_url(url: str) -> str:
    """The same address in libpq's form."""
    return "postgresql://" + driver_url(url).removeprefix("postgresql+psycopg://")


def create_engine(
    url: str, application_name: str, *, pool_size: int = 10, pool_seconds: float = 30.0
) -> sa.Engine:
    """An engine whose connections say who holds them, and never wait longer than 10 s for a lock. It has twice
    `pool_size` of them at most; who finds none free waits `pool_seconds` for one, and gets SQLAlchemy's `TimeoutError`.

    The connection used last is used next: its statements are prepared already. One that the server has left, or that
    has rested for a while, is asked whether it still works before it is used; one in constant use is not.
    """
    engine = sa.create_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=pool_seconds,
        pool_use_lifo=True,
        connect_args={
            "application_name": application_name,
            **SERVER,
            "options": "-c lock_timeout=10s -c idle_in_transaction_session_timeout=60s -c timezone=UTC",
        },
    )
    sa.event.listen(engine, "checkin", _rests)
    sa.event.listen(engine, "checkout", _works)
    return engine


def _rests(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
    record.info["rests_since"] = time.monotonic()


def _works(connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
    """Have a connection that no longer works, and with it all that rest, replaced by new ones."""
    found = cast("psycopg.Connection[object]", connection)
    rested = time.monotonic() - record.info.get("rests_since", time.monotonic())
    try:
        # an idle connection has nothing to read but its end
        if rested > PING_AFTER_SECONDS or _readable(found.fileno()).poll(0):
            found.execute("")
            found.rollback()
    except psycopg.OperationalError as error:
        raise sa.exc.InvalidatePoolError(str(error)) from error


def _readable(*descriptors: int) -> select.poll:
    """To wait for something to read. Not `select.select`, which knows no descriptor above 1023: a busy gateway has."""
    waiting = select.poll()
    for one in descriptors:
        waiting.register(one, select.POLLIN)
    return waiting


def sessions(engine: sa.Engine) -> Sessions:
    """Short units of work: `with make.begin() as session` commits at its end, once."""
    return sessionmaker(engine, expire_on_commit=False)


def now(session: Session) -> datetime:
    """The database's clock: the only "now" for deadlines and claims. Fixed within a transaction."""
    found: datetime = session.connection().exec_driver_sql("SELECT now()").scalar_one()
    return found


class Listener:
    """Waits for notifications on its own connection, and hands each payload on.

    A lost connection is made again, and every (re)connection is announced with the payload "" because anything may have
    been missed: callers treat that as "look now".
    """

    def __init__(self, url: str, channel: str, application_name: str) -> None:
        self._url = plain_url(url)
        self._channel = channel
        self._name = application_name
        self._stop = threading.Event()
        self._bell = os.eventfd(0)
        """Readable once it is stopped."""
        weakref.finalize(self, os.close, self._bell)

    def stop(self) -> None:
        self._stop.set()
        os.eventfd_write(self._bell, 1)

    def payloads(self) -> Iterator[str]:
        """Yields payloads until stopped, which ends it at once unless it is just connecting."""
        while not self._stop.is_set():
            try:
                with psycopg.connect(
                    self._url, autocommit=True, application_name=self._name, **SERVER
                ) as connection:
                    connection.execute(f'LISTEN "{self._channel}"'.encode())
                    yield ""
                    waiting = _readable(connection.fileno(), self._bell)
                    while not self._stop.is_set():
                        waiting.poll()
                        for note in connection.notifies(timeout=0):
                            yield note.payload
            except psycopg.Error:  # away, starting, or no longer the one that takes writes
                self._stop.wait(0.5)
