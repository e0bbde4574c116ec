"""The schema's versions, and the way up: apart from `leasing.database`, for only who migrates loads Alembic."""

from __future__ import annotations

import functools
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from leasing.database import driver_url

ROOT = Path(__file__).resolve().parent.parent


def migrate(url: str) -> None:
    """Bring the schema to this version; one process at a time, others wait for it."""
    config = _configuration()
    config.attributes["url"] = driver_url(url)
    command.upgrade(config, "head")


def at(connection: sa.Connection) -> tuple[str, ...]:
    """The schema that a database has; empty before the first migration."""
    return MigrationContext.configure(connection).get_current_heads()


@functools.cache
def schema_head() -> str:
    """The schema this version of the code is written for. The first call reads every migration."""
    head = migrations().get_current_head()
    assert head is not None, "there is at least one migration"
    return head


def migrations() -> ScriptDirectory:
    """Every migration that this version of the code has."""
    return ScriptDirectory.from_config(_configuration())


def _configuration() -> Config:
    config = Config(str(ROOT / "alembic.ini"))
    config.set_main_option("script_location", str(ROOT / "migrations"))
    return config
