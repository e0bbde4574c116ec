"""What is seen of leases from outside: that an endpoint is the right lease's, and that its files are those it had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx

from leasing.states import LeaseState
from tests.chaos.always import called
from tests.chaos.deeds import PORT
from tests.chaos.picture import Picture, Row
from tests.chaos.world import PEOPLE, World

Answer = tuple[int, str]
Ask = Callable[[str, str, str], Answer | None]
"""Who (nobody: empty), the lease's name and a path -> status and text; None where nobody answers."""


class Visitor:
    """Calls endpoints through the gateway, as their people do."""

    def __init__(self, world: World) -> None:
        self._tokens = world.tokens
        self._client = httpx.Client(base_url=world.gateway, trust_env=False, timeout=5)
        self.asked = 0

    def close(self) -> None:
        self._client.close()

    def __call__(self, who: str, name: str, path: str) -> Answer | None:
        self.asked += 1
        headers = {"Authorization": f"Bearer {self._tokens[who]}"} if who else {}
        try:
            found = self._client.get(f"/l/{name}/{path}", headers=headers)
        except httpx.TransportError:
            return None
        return found.status_code, found.text.strip()


class Markers:
    """Remembers what files each lease and workspace was first seen with."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._first: dict[Any, str] = {}
        self._workspace: dict[Any, str] = {}

    def wrong(self, picture: Picture) -> Iterator[str]:
        """2, 4 and 10; at rest only."""
        owners = {row["id"]: row["name"] for row in picture["users"]}
        live = [lease for lease in picture["lease"] if lease["state"] != LeaseState.ENDED]
        for lease in live:
            if lease["state"] == LeaseState.RUNNING and lease["port"] == PORT:
                yield from self._serves(lease, owners[lease["owner_id"]])
        names = {lease["name"] for lease in live}
        for lease in picture["lease"]:
            if lease["state"] == LeaseState.ENDED and lease["port"] and lease["name"] not in names:
                found = self._ask(owners[lease["owner_id"]], lease["name"], "id")
                if found is not None and found[0] < 400:
                    yield f"endpoint of {called(lease)} answers {found[0]} after its end"

    def _serves(self, lease: Row, owner: str) -> Iterator[str]:
        found = self._ask(owner, lease["name"], "id")
        if found is None or found[0] != 200:
            yield f"endpoint of {called(lease)} answers {found[0] if found else 'nothing'}"
            return
        if found[1] != str(lease["id"]):
            yield f"endpoint of {called(lease)} is that of {found[1][:60]!r}"
            return
        stranger = next(name for name in PEOPLE if name != owner)
        for who, allowed in ((stranger, (401, 403, 404)), ("", (401,))):
            answer = self._ask(who, lease["name"], "id")
            if answer is not None and answer[0] not in allowed:
                yield f"endpoint of {called(lease)} answers {who or 'anybody'} with {answer[0]}"
        yield from self._same(self._first, lease["id"], owner, lease, "first")
        if lease["workspace_id"] is not None:
            yield from self._same(self._workspace, lease["workspace_id"], owner, lease, "workspace")

    def _same(self, known: dict[Any, str], key: Any, owner: str, lease: Row, what: str) -> Iterator[str]:
        found = self._ask(owner, lease["name"], what)
        if found is None or found[0] != 200:
            yield f"{what} marker of {called(lease)} cannot be read: {found[0] if found else 'no answer'}"
        elif known.setdefault(key, found[1]) != found[1]:
            yield f"{what} marker of {called(lease)} is not the one that it had"
