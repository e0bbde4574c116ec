"""A real PostgreSQL for the tests: one server a test process, one fresh copy of the migrated schema a test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from leasing.database import driver_url
from leasing.host.postgres import OwnPostgres
from leasing.migrating import migrate

# Test data need not survive a power cut.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "1GB"}

_numbers = itertools.count(1)


class TestDatabases:
    """Hands out databases on one server; the first migrated one pays for running the migrations."""

    __test__ = False

    def __init__(self, server: OwnPostgres) -> None:
        self._server = server
        self._template: str | None = None

    @contextmanager
    def migrated(self) -> Iterator[str]:
        """The address of a database with the newest schema and no rows of anybody else's."""
        if self._template is None:
            self._template = self._create(template="template1")
            migrate(self._url(self._template))
        with self._temporary(self._template) as url:
            yield url

    @contextmanager
    def empty(self) -> Iterator[str]:
        """The address of a database in which nothing has been made yet."""
        with self._temporary("template1") as url:
            yield url

    @contextmanager
    def _temporary(self, template: str) -> Iterator[str]:
        name = self._create(template)
        try:
            yield self._url(name)
        finally:
            self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _create(self, template: str) -> str:
        name = f"test_{next(_numbers)}"
        # without a checkpoint before and after, as copying files needs them
        statement = sql.SQL("CREATE DATABASE {} OWNER leasing TEMPLATE {} STRATEGY wal_log")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._server.admin_url, autocommit=True) as connection:
            connection.execute(statement)

    def _url(self, name: str) -> str:
        return driver_url(self._server.url.rpartition("/")[0] + f"/{name}")


@contextmanager
def running(folder: Path) -> Iterator[OwnPostgres]:
    """A server of this test process's own."""
    server = OwnPostgres(folder, settings=FAST, only=None)
    try:
        server.start()
        yield server
    finally:
        server.stop()
