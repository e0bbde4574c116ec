"""The whole database into one file and back, by PostgreSQL's own pg_dump, pg_restore and psql."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import psycopg
from psycopg import conninfo

from leasing.errors import HostError
from leasing.host.postgres_binaries import Binaries, clients_for

# The schema goes first, so that nothing newer than the backup stays.
_EMPTY = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
# What waited for a lease may have been given to one since: used once, it must not be given away again.
_SPENT = """
    DO $$ BEGIN
        IF to_regclass('public.warm') IS NOT NULL THEN
            UPDATE public.warm SET state = 'spent' WHERE state IN ('making', 'ready');
        END IF;
    END $$
"""


def dump(url: str, target: Path) -> None:
    """Writes a consistent copy while the platform runs; `target` (mode 0600) appears only when it is complete.

    Raises `HostError`.
    """
    clients = _clients(url)
    partial = target.with_name(target.name + ".partial")
    try:
        partial.touch(0o600)
        _run(clients, "pg_dump", ["--format=custom", "--no-owner", "--no-privileges", "--file", partial], url)
        partial.rename(target)
    except OSError as error:
        raise HostError(f"{target} could not be written: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)


def restore(url: str, source: Path, *, known: Collection[str] | None = None) -> None:
    """Replaces everything in the database by the backup, in one transaction: all of it or nothing.

    The platform must be stopped. `known` are the schemas that may be restored (None: any database at all). Raises
    `HostError` when the file is no complete backup, or of something else.
    """
    clients = _clients(url)
    # pg_restore reads the file to its end before the database is touched: a truncated backup changes nothing.
    with tempfile.TemporaryDirectory(prefix="leasing-restore-") as folder:
        script = Path(folder) / "restore.sql"
        _run(clients, "pg_restore", ["--no-owner", "--no-privileges", "--file", script, source])
        if known is not None:
            _check(source, _revision(script), known)
        options = [
            "--no-psqlrc",
            "--quiet",
            "--single-transaction",
            "--set=ON_ERROR_STOP=1",
            "--output=/dev/null",
        ]
        _run(clients, "psql", [*options, "--command", _EMPTY, "--file", script, "--command", _SPENT], url)


def _check(source: Path, revision: str | None, known: Collection[str]) -> None:
    if revision is None:
        raise HostError(
            f"{source} is a backup of something else.", hint="Ours come from: lease admin backup FILE"
        )
    if revision not in known:
        raise HostError(
            f"{source} was written by a newer version (its schema is {revision}).",
            hint="Restore it with that version, or a newer one.",
        )


def _revision(script: Path) -> str | None:
    """The schema that a backup was at, by its migrations' own record."""
    with script.open("rb") as lines:
        for line in lines:
            if line.startswith(b"COPY public.alembic_version "):
                return next(lines).decode().strip()
    return None


def _clients(url: str) -> Binaries:
    try:
        with psycopg.connect(_plain(url), connect_timeout=5) as connection:
            major = connection.info.server_version // 10_000
    except psycopg.OperationalError as error:
        raise HostError(f"The database does not answer: {str(error).strip()}") from None
    return clients_for(major)


def _run(clients: Binaries, name: str, arguments: Sequence[str | Path], url: str | None = None) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    target: list[str] = []
    if url:
        # The password goes by the environment: a command line can be read by every user of the machine.
        parts = conninfo.conninfo_to_dict(_plain(url))
        environment["PGPASSWORD"] = str(parts.pop("password", ""))
        target = ["--dbname", conninfo.make_conninfo("", **parts)]
    command = [clients.program(name), *target, *arguments]
    done = subprocess.run(command, check=False, env=environment, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise HostError(f"{name} failed: {said[0]}")


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
