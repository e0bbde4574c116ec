"""What is being carried now, so that it can be cut when it no longer may be."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Protocol

from api.gateway.asked import Asked
from api.gateway.authorise import Refusal, authorise
from api.gateway.grants import Grants


class Carried(Protocol):
    """A call or a tunnel under way."""

    asked: Asked

    def cut(self) -> None:
        """End it at once, so that nobody takes it for a proper end."""


class Live:
    """All of them, on the event loop's thread."""

    def __init__(self) -> None:
        self._carried: dict[tuple[str, str], set[Carried]] = {}
        self._calls: Counter[str] = Counter()
        self._none = asyncio.Event()
        self._none.set()

    async def quiet(self) -> None:
        """Until nothing is carried."""
        await self._none.wait()

    def __len__(self) -> int:
        return self._calls.total()

    def calls(self, name: str) -> int:
        """So many of the lease of that name."""
        return self._calls[name]

    def add(self, one: Carried) -> None:
        self._carried.setdefault(_key(one), set()).add(one)
        self._calls[one.asked.target.name] += 1
        self._none.clear()

    def discard(self, one: Carried) -> None:
        key = _key(one)
        found = self._carried.get(key)
        if found is None or one not in found:
            return
        found.remove(one)
        if not found:
            del self._carried[key]
        self._calls[key[1]] -= 1
        if not self._calls[key[1]]:
            del self._calls[key[1]]
        if not self._carried:
            self._none.set()

    def recheck(self, grants: Grants) -> int:
        """Cut whatever would not be let in now, or would be led elsewhere. How many those were."""
        cut = 0
        moment = datetime.now(UTC)
        for (secret, name), carried in list(self._carried.items()):
            target = grants.target(name)
            verdict = authorise(grants.visitor(secret, moment), target)
            for one in list(carried):
                same = target is not None and one.asked.target.lease_id == target.lease_id
                moved = same and target is not None and one.asked.target.generation != target.generation
                if isinstance(verdict, Refusal) or not same or moved or one.asked.upstream != verdict:
                    one.cut()
                    cut += 1
        return cut

    def cut_all(self) -> None:
        for carried in list(self._carried.values()):
            for one in list(carried):
                one.cut()


def _key(one: Carried) -> tuple[str, str]:
    return one.asked.secret, one.asked.target.name
