"""Whom a helper program of ours runs as: never root."""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

OWN_NAME = "leasing"
"""The system account made on a machine where root runs us and PostgreSQL has never been installed."""

_CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True)
class Account:
    """A user of this machine; programs start under it with a clean environment."""

    name: str
    uid: int
    gid: int

    @property
    def is_us(self) -> bool:
        return self.uid == os.geteuid()

    def reaches(self, path: Path) -> bool:
        """Whether this user may enter the folder or execute the file; asked of the kernel, so that ACLs count too."""
        return self.run(["test", "-x", path]).returncode == 0

    def run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Runs to the end and returns what was printed, stderr within stdout."""
        return subprocess.run(
            [str(part) for part in command],
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",  # the present folder may be closed to this user
            env=_CLEAN,
            user=None if self.is_us else self.uid,
            group=None if self.is_us else self.gid,
            extra_groups=None if self.is_us else [],
        )

    def start(
        self,
        command: Sequence[str | Path],
        output: IO[bytes] | None,
        *,
        pass_fds: Sequence[int] = (),
        parting: str = "INT",
    ) -> subprocess.Popen[bytes]:
        """Starts a server that gets the signal `parting` as soon as the calling *thread* ends, however that ends.

        A session of its own keeps a Ctrl-C at our terminal from reaching it: we decide in which order things stop.
        Without an `output` it writes where we do. Of our open files it inherits `pass_fds` only.
        """
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", parting, *(str(part) for part in command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_CLEAN,
            user=None if self.is_us else self.uid,
            group=None if self.is_us else self.gid,
            extra_groups=None if self.is_us else [],
            start_new_session=True,
            pass_fds=pass_fds,
        )

    def give(self, path: Path, mode: int) -> None:
        """Makes the file or folder this user's, with these permissions."""
        if not self.is_us:
            os.chown(path, self.uid, self.gid)
        path.chmod(mode)


def for_database(owner_of: Path) -> Account:
    """Ourselves, unless we are root: then the owner of that folder if it exists, else an unprivileged system user."""
    if os.geteuid() != 0:
        return _account(pwd.getpwuid(os.geteuid()))
    if owner_of.exists() and owner_of.stat().st_uid != 0:
        return _account(pwd.getpwuid(owner_of.stat().st_uid))
    for name in ("postgres", OWN_NAME):
        try:
            return _account(pwd.getpwnam(name))
        except KeyError:
            continue
    return _make()


def for_proxy() -> Account:
    """Ourselves, unless we are root: then the account that HAProxy's package makes, else the one of our own."""
    if os.geteuid() != 0:
        return _account(pwd.getpwuid(os.geteuid()))
    for name in ("haproxy", OWN_NAME):
        try:
            return _account(pwd.getpwnam(name))
        except KeyError:
            continue
    return _make()


def _make() -> Account:
    if shutil.which("useradd") is None:
        return _account(pwd.getpwnam("nobody"))
    log.info("making the system user name=%s", OWN_NAME)
    subprocess.run(
        ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", OWN_NAME],
        check=True,
        capture_output=True,
    )
    return _account(pwd.getpwnam(OWN_NAME))


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
