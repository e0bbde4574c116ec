"""The proxy's process: made ready, started as nobody in particular, ended with us."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from api.gateway.proxy.config import Plan, errors, render
from api.gateway.proxy.runtime import Runtime, Unanswered
from leasing.errors import HostError
from leasing.host import packages
from leasing.host.account import Account

log = logging.getLogger(__name__)
PREFIX = "leasing-gateway-"
START_SECONDS = 10.0
ANSWER_SECONDS = 2.0
"""A proxy that does not answer for so long is ended and started anew: what it holds is not known."""
LOCK, CONFIGURATION, PEM = "lock", "haproxy.cfg", "served.pem"


def program() -> str:
    """HAProxy. Raises `HostError` with what installs it."""
    found = packages.program("haproxy")
    if found is None:
        raise HostError(
            "LEASING_GATEWAY_PLANE is haproxy, and there is no HAProxy on this machine.",
            hint="Run: sudo apt-get install haproxy; or unset LEASING_GATEWAY_PLANE for the built-in plane.",
        )
    return found


def listening(address: str, port: int) -> socket.socket:
    """The public socket. Opened by us: no start of the proxy needs a right to, and none loses a waiting caller."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=4096)


class Folder:
    """A folder for one proxy, its account's and nobody else's; those of processes that were killed are removed."""

    def __init__(self, account: Account) -> None:
        parent = Path("/run") if os.access("/run", os.W_OK) else Path(tempfile.gettempdir())
        _sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._account = account
        self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        account.give(self.path, 0o700)

    def write(self, name: str, content: str) -> Path:
        """A file that only the proxy's account reads."""
        path = self.path / name
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as out:
            out.write(content)
        self._account.give(path, 0o600)
        return path

    def pem(self, certificate: Path, key: Path) -> Path:
        """Both in one file, as HAProxy reads them."""
        return self.write(PEM, f"{certificate.read_text()}\n{key.read_text()}")

    def close(self) -> None:
        os.close(self._lock)
        shutil.rmtree(self.path, ignore_errors=True)


class Child:
    """HAProxy on that plan. Start it from a thread that lives as long as it should: it ends with that thread."""

    def __init__(self, plan: Plan, folder: Folder, account: Account) -> None:
        self._plan = plan
        self._folder = folder
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None
        self._program = program()
        self.runtime = Runtime(plan.admin, ANSWER_SECONDS)

    def start(self, tokens: Mapping[str, str], grants: Mapping[str, str]) -> None:
        """With these maps; returns when it answers. Raises `Unanswered`."""
        self.kill()  # two of them would share the public socket, and only the last is told of changes
        self._folder.write(self._plan.tokens.name, _lines(tokens))
        self._folder.write(self._plan.grants.name, _lines(grants))
        for name, answer in errors().items():
            self._folder.write(name, answer)
        configuration = self._folder.write(CONFIGURATION, render(self._plan))
        os.set_inheritable(self._plan.descriptor, True)
        self._process = self._account.start(
            [self._program, "-db", "-q", "-f", configuration],
            None,
            pass_fds=(self._plan.descriptor,),
            parting="TERM",  # it leaves SIGINT ignored where a shell's background job began so
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise Unanswered("it does not come up; its own words are above")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            return bool(self.runtime.ask("show info"))
        except Unanswered:
            return False

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self, seconds: float) -> bool:
        """Whether it still lives after so long."""
        if self._process is None:
            return False
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def end(self, seconds: float) -> None:
        """Take nothing new; let what is under way end for so long."""
        if self._process is not None and self.alive:
            self._process.send_signal(signal.SIGUSR1)
            self.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End it now; nothing passes any more when this returns."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _lines(entries: Mapping[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in entries.items())


def _sweep(parent: Path) -> None:
    """Folders whose process is gone no longer hold their lock."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            handle = os.open(folder / LOCK, os.O_RDWR)
        except OSError:
            continue  # another user's, or one being made
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue
        finally:
            os.close(handle)
