"""Runs migrations: one process at a time, never waiting long for a lock that live traffic holds."""

from __future__ import annotations

import os

import sqlalchemy as sa
from alembic import context

from leasing.database import create_engine
from leasing.model import Base

# What one migration may wait for a lock, and run; another process may wait long for its turn to migrate.
LOCK_TIMEOUT = "5s"
STATEMENT_TIMEOUT = "10min"


def run() -> None:
    url = context.config.attributes.get("url") or os.environ["LEASING_DATABASE_URL"]
    engine = create_engine(url, "leasing-migrate")
    try:
        with engine.connect() as connection:
            _migrate(connection)
    finally:
        engine.dispose()  # closes the session, and with it the advisory lock


def _migrate(connection: sa.Connection) -> None:
    connection.execute(sa.text("SET lock_timeout = 0"))
    connection.execute(sa.text("SELECT pg_advisory_lock(hashtextextended('leasing-migrate', 0))"))
    connection.execute(sa.text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.execute(sa.text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
    connection.commit()
    context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


run()
