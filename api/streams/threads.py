"""Threads that wait for bytes, apart from those of the operations: quiet terminals must not use these up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from api.streams.room import MOST_STREAMS

T = TypeVar("T")


def pool() -> anyio.CapacityLimiter:
    """As many as the streams need: each waits for output, and some write at the same time."""
    return anyio.CapacityLimiter(2 * MOST_STREAMS)


async def wait_for(app: Any, act: Callable[..., T], *arguments: object) -> T:
    """What `act` returns. Cancelling leaves its thread behind, so close what it waits for."""
    return await anyio.to_thread.run_sync(
        act, *arguments, limiter=app.state.stream_threads, abandon_on_cancel=True
    )
