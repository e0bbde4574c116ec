"""Threads beside a server's own: none outlives what it uses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_SECONDS = 3.0


@contextmanager
def beside(stop: threading.Event, /, **targets: Callable[[], object]) -> Iterator[None]:
    """Run each in a thread of its name for the length of the block.

    At its end, whatever ended it, `stop` is set and each is given a few seconds; one that hangs on a database that is
    away ends with the process.
    """
    threads = [threading.Thread(target=target, name=name, daemon=True) for name, target in targets.items()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
