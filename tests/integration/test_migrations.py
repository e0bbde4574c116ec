"""The schema: what the migrations make is what the code means, and they keep out of the way of a live platform."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from leasing.database import create_engine
from leasing.migrating import ROOT, migrate, schema_head


def config(url: str) -> Config:
    found = Config(str(ROOT / "alembic.ini"))
    found.set_main_option("script_location", str(ROOT / "migrations"))
    found.attributes["url"] = url
    return found


def at(url: str) -> str | None:
    engine = create_engine(url, "test")
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT max(version_num) FROM alembic_version")).scalar_one()
    engine.dispose()
    return str(found) if found else None


def test_the_models_and_the_migrations_agree(database_url: str) -> None:
    command.check(config(database_url))


def test_the_way_back_and_forth_again_ends_in_the_same_schema(database_url: str) -> None:
    command.downgrade(config(database_url), "base")
    assert at(database_url) is None
    migrate(database_url)
    command.check(config(database_url))


def test_each_file_is_dated_and_follows_one_other() -> None:
    revisions = list(ScriptDirectory.from_config(config("")).walk_revisions())
    assert [one for one in revisions if one.is_branch_point or one.is_merge_point] == []
    for one in revisions:
        folder, name = one.path.split("/")[-2:]
        assert re.fullmatch(rf"{folder}_\d\d_\d\d_{one.revision}\.py", name), one.path


def test_of_processes_that_migrate_at_once_one_does_and_the_others_wait(empty_database_url: str) -> None:
    code = f"from leasing.migrating import migrate; migrate({empty_database_url!r})"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    assert at(empty_database_url) == schema_head()


def test_a_migration_does_not_wait_long_for_a_lock_of_a_live_platform(database_url: str) -> None:
    command.downgrade(config(database_url), "handover")  # what comes next changes a table that is in use
    before = at(database_url)
    engine = create_engine(database_url, "test")
    with engine.connect() as connection:
        for table in sa.inspect(connection).get_table_names():
            connection.execute(sa.text(f"LOCK TABLE {table} IN ACCESS SHARE MODE"))
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            migrate(database_url)
        connection.rollback()
    engine.dispose()
    assert at(database_url) == before, "nothing is half done"
    migrate(database_url)
    assert at(database_url) == schema_head()
