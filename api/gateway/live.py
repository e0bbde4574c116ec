"""What is being carried now, so that it can be cut when it no longer may be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from api.gateway.asked import Asked
from api.gateway.authorise import Refusal, Upstream, authorise
from api.gateway.grants import Grants, Target


class Carried(Protocol):
    """A call or a tunnel under way."""

    asked: Asked

    def cut(self) -> None:
        """End it at once, so that nobody takes it for a proper end."""


class Live:
    """All of them, on the event loop's thread."""

    def __init__(self) -> None:
        self._carried: set[Carried] = set()
        self._calls: dict[str, int] = {}
        self._none = asyncio.Event()
        self._none.set()

    async def quiet(self) -> None:
        """Until nothing is carried."""
        await self._none.wait()

    def __len__(self) -> int:
        return len(self._carried)

    def calls(self, name: str) -> int:
        """So many of the lease of that name, with those that wait to be carried."""
        return self._calls.get(name, 0)

    def add(self, one: Carried) -> None:
        self._carried.add(one)
        self._count(one.asked.target.name)
        self._none.clear()

    def waits(self, name: str) -> Callable[[], None]:
        """Count one of that lease that is not carried yet; what is returned ends that, once however often called."""
        self._count(name)
        waiting = True

        def over() -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                self._uncount(name)

        return over

    def discard(self, one: Carried) -> None:
        if one not in self._carried:
            return
        self._carried.remove(one)
        self._uncount(one.asked.target.name)
        if not self._carried:
            self._none.set()

    def _count(self, name: str) -> None:
        self._calls[name] = self._calls.get(name, 0) + 1

    def _uncount(self, name: str) -> None:
        if self._calls[name] == 1:
            del self._calls[name]
        else:
            self._calls[name] -= 1

    def recheck(self, grants: Grants) -> int:
        """Cut whatever would not be let in now, or would be led elsewhere. How many those were."""
        cut = 0
        moment = datetime.now(UTC)
        verdicts: dict[tuple[str, str], tuple[Target | None, Upstream | Refusal]] = {}
        for one in list(self._carried):
            asked = one.asked
            key = asked.secret, asked.target.name
            if key not in verdicts:
                target = grants.target(asked.target.name)
                verdicts[key] = target, authorise(grants.visitor(asked.secret, moment), target)
            target, verdict = verdicts[key]
            same = (
                target is not None
                and asked.target.lease_id == target.lease_id
                and asked.target.generation == target.generation
            )
            if not same or asked.upstream != verdict:
                one.cut()
                cut += 1
        return cut

    def cut_all(self) -> None:
        for one in list(self._carried):
            one.cut()
