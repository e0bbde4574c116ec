"""Threads beside a server's own: none outlives what it uses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)
PATIENCE_SECONDS = 3.0


@contextmanager
def beside(stop: threading.Event, /, **targets: Callable[[], object]) -> Iterator[None]:
    """Run each in a thread of its name for the length of the block.

    At its end, whatever ended it, `stop` is set and each is given a few seconds; one that hangs on a database that is
    away ends with the process. One that dies before sets `stop`, and the block then ends with a `RuntimeError`: without
    it the server would be half of one, and the process is to be started anew.
    """
    dead: list[str] = []

    def run(name: str, target: Callable[[], object]) -> None:
        try:
            target()
        except Exception:  # whatever it was: the server ends with it, and says so
            log.exception("thread died name=%s", name)
            if not stop.is_set():
                dead.append(name)
                stop.set()

    threads = [threading.Thread(target=run, args=each, name=each[0], daemon=True) for each in targets.items()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
    if dead:
        raise RuntimeError(f"threads died: {', '.join(dead)}")
