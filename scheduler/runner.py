"""Running loops: each is a `run_once`, the runner owns when, and what happens when it fails."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from leasing.errors import LeasingError

log = logging.getLogger(__name__)

RunOnce = Callable[[], object]


class Loop:
    """One named loop on its own thread: a pass, then one wait on (wake | interval | stop).

    A pass that raises is logged, once per run of equal failures, and tried again; a wake that comes during a pass is
    kept for the next. This is the one place that catches everything: a loop must outlive any single bad row.
    """

    def __init__(self, name: str, run_once: RunOnce, *, interval: float, rest: float = 0.0) -> None:
        """`interval` seconds pass at most between two passes, and `rest` at least, however often it is woken."""
        self.name = name
        self.failures = 0
        """Passes that raised since the last good one."""
        self._run_once = run_once
        self._interval = interval
        self._rest = rest
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Look now, or right after the pass that is under way."""
        self._wake.set()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    def join(self, seconds: float) -> bool:
        """Wait for the thread; whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        last = ""
        while not self._stopping.is_set():
            self._wake.clear()
            began = time.monotonic()
            try:
                self._run_once()
                if self.failures:
                    log.info("loop recovered name=%s failures=%d", self.name, self.failures)
                self.failures, last = 0, ""
            except (LeasingError, sa.exc.OperationalError) as error:
                self.failures += 1
                if last != (last := f"{type(error).__name__}: {error}"):
                    log.warning("loop waits name=%s error=%s", self.name, last.splitlines()[0])
            except Exception:  # the runner is the one place that outlives anything
                self.failures += 1
                log.exception("loop failed name=%s", self.name)
            took = time.monotonic() - began
            if took > max(1.0, 5 * self._interval):
                log.warning("loop overran name=%s took=%.1fs interval=%.1fs", self.name, took, self._interval)
            pause = (
                self._interval
                if not self.failures
                else min(30.0, self._interval * 2 ** min(self.failures, 5))
            )
            if not self._stopping.wait(self._rest):
                self._wake.wait(pause)


class Group:
    """Loops that live and die together."""

    def __init__(self, loops: Sequence[Loop]) -> None:
        self._loops = loops

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    def wake(self) -> None:
        """Have all look now."""
        for loop in self._loops:
            loop.wake()

    def stop(self, *, seconds: float) -> None:
        """Ask all to stop, then wait for them together, at most `seconds`."""
        for loop in self._loops:
            loop.stop()
        deadline = time.monotonic() + seconds
        for loop in self._loops:
            if not loop.join(max(0.0, deadline - time.monotonic())):
                log.warning("loop did not stop in time name=%s", loop.name)

    def dead(self) -> list[str]:
        """Names of loops whose thread has ended: the process must not go on without them."""
        return [loop.name for loop in self._loops if not loop.alive]
