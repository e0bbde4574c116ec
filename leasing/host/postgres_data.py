"""The data folder of a PostgreSQL of ours: made whole or not at all, and cleared of what a crash left."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import time
from pathlib import Path

from leasing.errors import HostError
from leasing.host.account import Account
from leasing.host.postgres_binaries import Binaries

log = logging.getLogger(__name__)


def initialise(data: Path, binaries: Binaries, account: Account, password: str, *, sync: bool) -> None:
    """Makes the folder beside its final place, so that an interrupted try is never taken for data.

    `sync=False` is for data that need not survive a power cut. Raises `HostError`, leaving nothing behind.
    """
    log.info("making the database folder=%s user=%s", data, account.name)
    home = data.parent
    partial = data.with_name("data.partial")
    password_file = home / "initial-password"
    try:
        home.mkdir(exist_ok=True)
        account.give(home, 0o700)
        shutil.rmtree(partial, ignore_errors=True)
        password_file.touch(0o600)
        account.give(password_file, 0o600)
        password_file.write_text(password + "\n")
        command: list[str | Path] = [
            binaries.program("initdb"),
            f"--pgdata={partial}",
            f"--pwfile={password_file}",
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
            *([] if sync else ["--no-sync"]),
        ]
        made = account.run(command)
        if made.returncode != 0:
            raise HostError(f"The database folder could not be made. {explain(made.stdout, home)}")
        partial.rename(data)
    except OSError as error:
        raise HostError(f"The database folder could not be made: {error.strerror} ({home}).") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        password_file.unlink(missing_ok=True)


def end_leftover(data: Path, seconds: float) -> None:
    """Stops a server, or removes the mark of one, that a killed process left behind.

    For the holder of the state folder's lock only: then no living process of ours runs this data. Raises `HostError`
    if a server is still there after `seconds`.
    """
    pid_file = data / "postmaster.pid"
    if not pid_file.exists():
        return
    first_line = pid_file.read_text().partition("\n")[0]
    pid = int(first_line) if first_line.isdecimal() else 0
    deadline = time.monotonic() + seconds
    while pid and _runs_in(pid, data):
        _end(pid, signal.SIGINT, deadline)
    # A statement goes on without the server it was sent to, and no other server starts until it is over.
    while orphans := _all_in(data):
        for orphan in orphans:
            _end(orphan, signal.SIGTERM, deadline)
    # The number in a stale file may belong to any process by now, and PostgreSQL would then refuse to start.
    pid_file.unlink(missing_ok=True)


def explain(said: str, folder: Path) -> str:
    """One sentence out of a program's last words."""
    if "No space left on device" in said:
        free = shutil.disk_usage(folder).free // 2**20
        return f"The disk of {folder} is full ({free} MiB free; at least 300 MiB are needed)."
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "FATAL" in line or "PANIC" in line or "error:" in line]
    return (errors or lines or ["It said nothing."])[-1]


def _end(pid: int, how: signal.Signals, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise HostError(
            f"A PostgreSQL left from before (process {pid}) does not stop.",
            hint=f"End it with `kill -QUIT {pid}`, then try again.",
        )
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
    time.sleep(0.05)


def _all_in(folder: Path) -> list[int]:
    pids = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdecimal()]
    return [pid for pid in pids if _runs_in(pid, folder)]


def _runs_in(pid: int, folder: Path) -> bool:
    """Whether that process is alive with `folder` as its working directory, as a PostgreSQL server on it is."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder.resolve()
    except OSError:
        return False
