"""Keeping a set of processes alive: one that dies is started again, all end with us."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

log = logging.getLogger(__name__)
PR_SET_PDEATHSIG = 1
LONGEST_PAUSE = 30.0
SETTLED_SECONDS = 60.0
"""One that lived so long has recovered: its next death is its first again."""


@dataclass
class Child:
    """A process that shall run."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    started_at: float = 0.0
    start_after: float = 0.0


@dataclass
class Supervisor:
    """Call `tick` again and again from one thread that lives as long as the children should."""

    children: Sequence[Child]
    clock: Callable[[], float] = time.monotonic
    restarts: dict[str, int] = field(default_factory=dict)

    def tick(self) -> None:
        """Start what is not running and due; note what died.

        One that the machine refuses to start, for want of memory or processes, has died at once: the others live on.
        """
        now = self.clock()
        for child in self.children:
            if child.process is not None and (code := child.process.poll()) is not None:
                self._died(child, f"code={code}", now)
            if child.process is None and now >= child.start_after:
                child.started_at = now
                try:
                    child.process = _spawn(child)
                except (OSError, subprocess.SubprocessError) as error:
                    self._died(child, f"error={error}", now)

    def stop(self, seconds: float) -> None:
        """Ask all to end, wait for them together, then insist."""
        running = [child.process for child in self.children if child.process is not None]
        for process in running:
            process.terminate()
        deadline = self.clock() + seconds
        for process in running:
            try:
                process.wait(max(0.0, deadline - self.clock()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _died(self, child: Child, how: str, now: float) -> None:
        if now - child.started_at > SETTLED_SECONDS:
            child.deaths = 0
        child.deaths += 1
        pause = 0.0 if child.deaths == 1 else min(LONGEST_PAUSE, 0.5 * 2.0**child.deaths)
        log.warning("part died and is started again part=%s %s in=%.1fs", child.name, how, pause)
        child.process, child.start_after = None, now + pause
        self.restarts[child.name] = self.restarts.get(child.name, 0) + 1


def _spawn(child: Child) -> subprocess.Popen[bytes]:
    parent = os.getpid()

    def die_with_parent() -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was faster than the call above
            os._exit(1)

    return subprocess.Popen(
        child.command,
        env=dict(child.environment),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C at our terminal is ours to pass on, in order
        preexec_fn=die_with_parent,  # noqa: PLW1509 - nothing but two system calls happens in there
    )
