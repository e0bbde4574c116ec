"""What is seen of leases from outside: that an endpoint is the right lease's, and that its files are those it had."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from leasing.states import LeaseState
from tests.chaos.always import called
from tests.chaos.deeds import PORT
from tests.chaos.picture import Picture, Row
from tests.chaos.world import PEOPLE, World


class Markers:
    """Remembers what files each lease and workspace was first seen with."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._client = httpx.Client(base_url=world.gateway, trust_env=False, timeout=5)
        self._first: dict[Any, str] = {}
        self._workspace: dict[Any, str] = {}
        self.asked = 0

    def close(self) -> None:
        self._client.close()

    def wrong(self, picture: Picture) -> Iterator[str]:
        """2, 4 and 10, through the gateway; at rest only."""
        owners = {row["id"]: row["name"] for row in picture["users"]}
        names = set()
        for lease in picture["lease"]:
            if lease["state"] == LeaseState.ENDED:
                continue
            names.add(lease["name"])
            if lease["state"] == LeaseState.RUNNING and lease["port"] == PORT:
                yield from self._serves(lease, owners[lease["owner_id"]])
        for lease in picture["lease"]:
            if lease["state"] == LeaseState.ENDED and lease["port"] and lease["name"] not in names:
                yield from self._is_shut(lease, owners[lease["owner_id"]])

    def _serves(self, lease: Row, owner: str) -> Iterator[str]:
        found = self._get(owner, lease, "id")
        if found is None or found.status_code != 200:
            yield f"endpoint of {called(lease)} answers {found.status_code if found else 'nothing'}"
            return
        if found.text.strip() != str(lease["id"]):
            yield f"endpoint of {called(lease)} is that of {found.text[:60]!r}"
            return
        stranger = next(name for name in PEOPLE if name != owner)
        for who, allowed in ((stranger, (401, 403, 404)), ("", (401,))):
            answer = self._get(who, lease, "id")
            if answer is not None and answer.status_code not in allowed:
                yield f"endpoint of {called(lease)} answers {who or 'anybody'} with {answer.status_code}"
        yield from self._same(self._first, lease["id"], self._get(owner, lease, "first"), lease, "files")
        if lease["workspace_id"] is not None:
            key = lease["workspace_id"]
            yield from self._same(
                self._workspace, key, self._get(owner, lease, "workspace"), lease, "workspace"
            )

    def _same(
        self, known: dict[Any, str], key: Any, found: httpx.Response | None, lease: Row, what: str
    ) -> Iterator[str]:
        if found is None or found.status_code != 200:
            yield f"{what} of {called(lease)} cannot be read: {found.status_code if found else 'no answer'}"
        elif known.setdefault(key, found.text) != found.text:
            yield f"{what} of {called(lease)} are not those that it had"

    def _is_shut(self, lease: Row, owner: str) -> Iterator[str]:
        found = self._get(owner, lease, "id")
        if found is not None and found.status_code < 400:
            yield f"endpoint of {called(lease)} answers {found.status_code} after its end"

    def _get(self, who: str, lease: Row, path: str) -> httpx.Response | None:
        self.asked += 1
        headers = {"Authorization": f"Bearer {self._world.tokens[who]}"} if who else {}
        try:
            return self._client.get(f"/l/{lease['name']}/{path}", headers=headers)
        except httpx.TransportError:
            return None
