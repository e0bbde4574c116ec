"""What is being carried now, so that it can be cut when it no longer may be."""

from __future__ import annotations

import asyncio
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
        """So many of the lease of that name."""
        return self._calls.get(name, 0)

    def add(self, one: Carried) -> None:
        self._carried.add(one)
        name = one.asked.target.name
        self._calls[name] = self._calls.get(name, 0) + 1
        self._none.clear()

    def discard(self, one: Carried) -> None:
        if one not in self._carried:
            return
        self._carried.remove(one)
        name = one.asked.target.name
        if self._calls[name] == 1:
            del self._calls[name]
        else:
            self._calls[name] -= 1
        if not self._carried:
            self._none.set()

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
