"""The whole platform as a user runs it: `lease serve` as real processes, on its own ports and state."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import scratch

LEASE = str(Path(sys.executable).parent / "lease")
READY_SECONDS = 90.0


def free_port() -> int:
    """For somebody who takes it a while later: below those that the kernel gives to whoever asks for any."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(
    condition: Callable[[], Any], *, seconds: float = 30.0, what: str = "it", every: float = 0.05
) -> Any:
    """The condition's first true value; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(every)


@dataclass
class Stack:
    """One running platform, and the command line that belongs to it."""

    root: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environment['LEASING_PORT']}"

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.environment['LEASING_GATEWAY_PORT']}"

    @property
    def log(self) -> str:
        return (self.root / "serve.log").read_text()

    def start(self) -> None:
        with (self.root / "serve.log").open("wb") as log:
            self.process = subprocess.Popen(
                [LEASE, "serve"], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        until(self._up, seconds=READY_SECONDS, what="the platform")

    def _up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        return "Ctrl-C stops the platform" in self.log

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def lease(
        self, *arguments: str, check: bool = True, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The command line, as a user types it."""
        done = subprocess.run(
            [LEASE, *arguments], env=self.environment, capture_output=True, text=True, input=text or "", check=False,
            timeout=120,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"lease {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.lease(*arguments, "--json").stdout)

    def state(self, name: str) -> str:
        return str(self.json("show", name)["state"])

    def signin_link(self) -> str:
        return self.lease("admin", "signin-link").stdout.strip()

    def containers(self) -> list[str]:
        """Names of this platform's own containers, by the engine's own word; without those that wait for a lease."""
        own = self.installation()
        listed = subprocess.run(
            ["docker", "ps", "-a", "--format", "{{.Names}}", "--filter", f"label=leasing.installation={own}"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return [name for name in listed.stdout.split() if not name.startswith(f"leasing-{own}-warm-")]

    def installation(self) -> str:
        found = re.search(r"scheduler runs installation=(\w+)", self.log)
        assert found is not None
        return found[1]

    def part(self, role: str) -> int:
        """The pid of one of its parts."""
        listed = subprocess.run(
            ["pgrep", "-f", f"serve --role {role}$"], capture_output=True, text=True, check=False
        )
        assert self.process is not None
        for pid in listed.stdout.split():
            if Path(f"/proc/{pid}/stat").read_text().split()[3] == str(self.process.pid):
                return int(pid)
        raise AssertionError(f"no {role} is running")


def emptied(platform: Stack) -> Iterator[Stack]:
    """For a fixture of one test, of a platform that many use: afterwards nobody has anything there."""
    yield platform
    for lease in platform.json("ls"):
        platform.lease("release", lease["name"])
    until(lambda: platform.json("ls") == [], what="every lease's end")


@contextmanager
def running(settings: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """A platform for some tests; afterwards nothing of it is left, on the engine neither."""
    root = scratch.folder("leasing-stack-")
    environment = dict(os.environ) | {
        "LEASING_STATE_DIR": str(root / "state"),
        "LEASING_CONFIG_DIR": str(root / "config"),
        "LEASING_PORT": str(free_port()),
        "LEASING_GATEWAY_PORT": str(free_port()),
        "LEASING_NODE_PORT": str(free_port()),
        "LEASING_SCHEDULER_ORPHAN_GRACE_SECONDS": "2",
        # ready networks for one start at a time: for most tests more would be made and removed for nothing
        "LEASING_WARM_SANDBOXES": "1",
        "LEASING_WARM_SANDBOXES_MOST": "1",
        # what tests lease is mostly a `sleep`, which as a container's first process hears no request to stop
        "LEASING_SCHEDULER_STOP_GRACE_SECONDS": "1",
        **(settings or {}),
    }
    stack = Stack(root, environment)
    try:
        stack.start()
        yield stack
    finally:
        if stack.process is not None and stack.process.poll() is None:
            stack.stop()
        subprocess.run(
            [LEASE, "admin", "uninstall", "--yes", "--workspaces"],
            env=environment,
            capture_output=True,
            check=False,
        )
        shutil.rmtree(root, ignore_errors=True)
