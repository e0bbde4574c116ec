"""Who relies on the firewall's rules: installations share them, and the last one to go takes them away."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = Path("/run/leasing-firewall.lock")


@contextmanager
def relying() -> Iterator[None]:
    """Held by each scheduler while it runs, and let go by the kernel however it ends. Without root, nothing to hold."""
    if os.geteuid() != 0:
        yield
        return
    with LOCK.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def nobody_relies() -> Iterator[bool]:
    """Whether no scheduler of this machine runs; none begins to while this is held."""
    if os.geteuid() != 0:
        yield False
        return
    with LOCK.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
