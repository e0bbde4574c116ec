"""`dump` and `restore` against a real server."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from leasing.errors import HostError
from leasing.host import revisions
from leasing.host.postgres import OwnPostgres
from leasing.host.postgres_backup import dump, restore


def tables(url: str) -> dict[str, int]:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        names = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        ).fetchall()
        return {name: _count(connection, name) for (name,) in names}


def _count(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(
        psycopg.sql.SQL("SELECT count(*) FROM {}").format(psycopg.sql.Identifier(table))
    ).fetchone()
    assert row
    count: int = row[0]
    return count


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(statement.encode())


def test_restore_brings_back_the_whole_migrated_schema(
    database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    before = tables(database_url)
    dump(database_url, tmp_path / "backup")
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    restore(empty_database_url, tmp_path / "backup")
    assert tables(empty_database_url) == before
    assert before["alembic_version"] == 1


def test_restore_leaves_nothing_newer_than_the_backup(empty_database_url: str, tmp_path: Path) -> None:
    execute(empty_database_url, "CREATE TABLE kept AS SELECT generate_series(1, 100)")
    dump(empty_database_url, tmp_path / "backup")
    execute(empty_database_url, "CREATE TABLE newer (); DELETE FROM kept")
    restore(empty_database_url, tmp_path / "backup")
    assert tables(empty_database_url) == {"kept": 100}


def test_what_waited_for_a_lease_is_given_to_none_after_it(database_url: str, tmp_path: Path) -> None:
    """Since the backup it may have been given away; what a run has stays that run's."""
    execute(database_url, "INSERT INTO node (name, driver, address) VALUES ('local', 'docker', '')")
    for state in ("making", "ready", "taken"):
        execute(
            database_url,
            "INSERT INTO warm (node_id, role, state, container_id)"
            f" SELECT id, 'sandbox', '{state}', '{state}' FROM node",
        )
    dump(database_url, tmp_path / "backup")
    restore(database_url, tmp_path / "backup")
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        found = connection.execute("SELECT container_id, state FROM warm ORDER BY container_id").fetchall()
    assert found == [("making", "spent"), ("ready", "spent"), ("taken", "taken")]


def test_truncated_backup_changes_nothing(empty_database_url: str, tmp_path: Path) -> None:
    execute(empty_database_url, "CREATE TABLE kept AS SELECT md5(n::text) FROM generate_series(1, 5000) n")
    backup = tmp_path / "backup"
    dump(empty_database_url, backup)
    backup.write_bytes(backup.read_bytes()[:-1000])
    with pytest.raises(HostError, match="pg_restore failed"):
        restore(empty_database_url, backup)
    assert tables(empty_database_url) == {"kept": 5000}


def test_something_else_than_a_backup_is_refused(empty_database_url: str, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear database,")
    with pytest.raises(HostError, match="pg_restore failed"):
        restore(empty_database_url, tmp_path / "letter")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("CREATE TABLE alembic_version AS SELECT 'from_the_future'::text AS version_num", "newer version"),
        ("CREATE TABLE invoices (number int)", "backup of something else"),
    ],
)
def test_a_backup_that_this_version_cannot_read_changes_nothing(
    database_url: str, empty_database_url: str, tmp_path: Path, made: str, said: str
) -> None:
    execute(empty_database_url, made)
    dump(empty_database_url, tmp_path / "backup")
    before = tables(database_url)
    with pytest.raises(HostError, match=said):
        restore(database_url, tmp_path / "backup", known=revisions.known())
    assert tables(database_url) == before


def test_our_own_backup_is_known(database_url: str, empty_database_url: str, tmp_path: Path) -> None:
    dump(database_url, tmp_path / "backup")
    restore(empty_database_url, tmp_path / "backup", known=revisions.known())
    assert tables(empty_database_url) == tables(database_url)


def test_a_damaged_backup_changes_nothing(empty_database_url: str, tmp_path: Path) -> None:
    execute(empty_database_url, "CREATE TABLE kept AS SELECT md5(n::text) FROM generate_series(1, 5000) n")
    backup = tmp_path / "backup"
    dump(empty_database_url, backup)
    damaged = bytearray(backup.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    backup.write_bytes(damaged)
    with pytest.raises(HostError, match="pg_restore failed"):
        restore(empty_database_url, backup)
    assert tables(empty_database_url) == {"kept": 5000}


def test_dump_to_a_place_that_is_not_there_says_so(postgres: OwnPostgres, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="could not be written"):
        dump(postgres.url, tmp_path / "missing" / "backup")
