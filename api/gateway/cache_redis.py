"""Answers kept on a Redis server, which several gateways share."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import UUID

import redis.asyncio as client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from api.gateway.cache_store import Kept, Store

log = logging.getLogger(__name__)
PREFIX = "leasing:cache:"
ANSWER_SECONDS = 0.25
"""A server that takes longer is slower than many an application: it is done without."""
AWAY_SECONDS = 1.0
"""It is not asked again for so long then."""
FORGET_SECONDS = 2 * 86400
"""Longer than any answer is kept."""
CONNECTIONS = 8
WAIT_SECONDS = 1.0
"""For one of them, or to make one."""
Found = TypeVar("Found")


class Redis(Store):
    """One server, whose own `maxmemory` is the bound. While it is away nothing is kept and nothing is found."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises `ValueError` for an address that is none."""
        pool = client.BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=WAIT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=WAIT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._client = client.Redis.from_pool(pool)
        self._clock = clock
        self._away_until = float("-inf")
        self._failing = False

    async def get(self, lease_id: UUID, keys: Sequence[bytes]) -> Kept | None:
        found = await self._ask(lambda: self._client.mget([_key(lease_id, key) for key in keys]))
        for data in found or ():
            if isinstance(data, bytes) and (kept := unpacked(data)) is not None:
                return kept
        return None

    async def put(self, lease_id: UUID, key: bytes, kept: Kept, seconds: float) -> None:
        wanted = max(1, int(seconds * 1000))
        await self._ask(lambda: self._client.set(_key(lease_id, key), packed(kept), px=wanted))

    async def changes(self, lease_id: UUID) -> int | None:
        # a list of one, so that a key that is not there is not taken for a server that is not
        found = await self._ask(lambda: self._client.mget([_changes(lease_id)]))
        return None if found is None else int(found[0] or 0)

    async def change(self, lease_id: UUID) -> None:
        name = _changes(lease_id)
        steps = self._client.pipeline(transaction=True)
        steps.incr(name)
        steps.expire(name, FORGET_SECONDS)
        await self._ask(steps.execute)

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, what: Callable[[], Awaitable[Found]]) -> Found | None:
        """None when it does not answer."""
        if self._clock() < self._away_until:
            return None
        try:
            found = await what()
        except (RedisError, OSError) as error:
            self._away_until = self._clock() + AWAY_SECONDS
            if not self._failing:
                log.warning(
                    "cache not reached error=%s", str(error).splitlines()[0] if str(error) else type(error)
                )
            self._failing = True
            return None
        self._failing = False
        return found


def packed(kept: Kept) -> bytes:
    """As bytes: a line of JSON, then the body."""
    head = {
        "status": kept.status,
        "reason": kept.reason,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in kept.headers],
        "at": kept.at,
        "own": kept.own,
    }
    return json.dumps(head).encode() + b"\n" + kept.body


def unpacked(data: bytes) -> Kept | None:
    """None for what somebody else has written there."""
    head, _, body = data.partition(b"\n")
    try:
        found = json.loads(head)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in found["headers"]]
        return Kept(
            int(found["status"]), str(found["reason"]), headers, body, float(found["at"]), bool(found["own"])
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _key(lease_id: UUID, key: bytes) -> str:
    return f"{PREFIX}{lease_id}:{key.hex()}"


def _changes(lease_id: UUID) -> str:
    return f"{PREFIX}{lease_id}:changes"
