"""The platform's parts as processes that start in milliseconds, so that they can be killed many times a minute.

A nursery has loaded every part's code once, and forks a part when it is told to. What is forked is a process like any
other: `kill -9` ends it as it ends one that `lease serve` started, and its successor begins with empty hands. It runs
`lease serve --role ROLE`, with nothing changed but which network pool belongs to which engine.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

POOLS = "CHAOS_POOLS"
"""In a part's environment: engine address -> the pool of its networks, as JSON."""

LOADED = (
    "tests.chaos.part",
    *("api.server", "api.app", "web", "images.catalogue", "monitoring.collector"),
    *("api.gateway.server", "scheduler.process", "scheduler.delivery.postman", "monitoring.node"),
    *("leasing.drivers.docker", "leasing.migrating", "leasing.host.firewall", "leasing.service.registries"),
)
"""All that any part loads when it starts, loaded before the first fork."""


class Part:
    """One process, by a handle that stays its own when the number is given to another."""

    def __init__(self, name: str, pid: int) -> None:
        self.name, self.pid = name, pid
        try:
            self._handle: int | None = os.pidfd_open(pid)
        except ProcessLookupError:  # it ended before we could look
            self._handle = None

    @property
    def alive(self) -> bool:
        return self._handle is not None and not select.select([self._handle], [], [], 0)[0]

    def signal(self, number: signal.Signals) -> None:
        if self._handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """And wait for its end."""
        self.signal(signal.SIGKILL)
        if self._handle is not None:
            select.select([self._handle], [], [], 10)
            os.close(self._handle)
            self._handle = None


class Nursery:
    """From the main thread's side. `close` ends it, and every part with it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True,
        )  # fmt: skip
        self._answer()

    def start(self, name: str, role: str, environment: Mapping[str, str], log: Path) -> Part:
        """A new process of that role. Its output goes on in `log`."""
        assert self._process.stdin is not None
        wish = {"role": role, "environment": dict(environment), "log": str(log)}
        self._process.stdin.write(json.dumps(wish) + "\n")
        return Part(name, int(self._answer()))

    def close(self) -> None:
        self._process.kill()  # the parts are told by the kernel
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the nursery died; its last words are above"
        return line.strip()


def _serve_wishes() -> None:
    for module in LOADED:
        importlib.import_module(module)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    parent = os.getpid()
    print(parent, flush=True)
    for line in sys.stdin:
        wish = json.loads(line)
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:
                os._exit(1)
            _become(wish)
        print(pid, flush=True)


def _become(wish: dict[str, object]) -> None:
    """Be that part until the end, and never come back."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log = os.open(str(wish["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, target)
        environment = wish["environment"]
        assert isinstance(environment, dict)
        os.environ.update(environment)
        from tests.chaos import part

        part.run(str(wish["role"]))
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve_wishes()
