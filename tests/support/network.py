"""A network namespace of a test's own: its interfaces, rules and sockets, and nobody else's."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000


class OwnNetwork:
    """Runs functions on one thread that lives in a new network namespace; so do the programs that they start.

    The namespace goes when the thread ends. Needs root.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, initializer=_leave)

    def __call__(self, function: Callable[..., T], *arguments: object) -> T:
        return self._thread.submit(function, *arguments).result()

    def close(self) -> None:
        self._thread.shutdown()


def _leave() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
