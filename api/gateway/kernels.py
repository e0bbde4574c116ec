"""Notebook kernels: a busy one is activity, although it may use nothing that is measured (it waits for a cluster).

Asked is what listens at a lease's port, as a notebook page asks it. Only an answer that tells of kernels counts:
whatever is no Jupyter, or wants a token of its own, says nothing. Where Jupyter once answered, silence is unknown; and
where nothing listens any more, no kernel is busy.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import aiohttp
from sqlalchemy.exc import SQLAlchemyError

from api.gateway.grants import Grants, Target
from api.gateway.traffic import PACKETS, Counters
from leasing.database import Sessions, now
from leasing.model import SignalKind
from leasing.service import signals
from leasing.service.signals import Observation

log = logging.getLogger(__name__)
LOOK_SECONDS = 2.0
KNOWN_SECONDS, NEW_SECONDS, STRANGE_SECONDS = 10.0, 30.0, 300.0
"""Between two questions: to a Jupyter; to what may be one; to what has been none for `PATIENCE` times."""
PATIENCE = 10
ANSWER_SECONDS = 3.0
MOST_BYTES = 256 * 1024
AT_ONCE = 16
WORKS = frozenset({"busy", "starting", "restarting"})
QUESTION = "api/kernels?no_track_activity=1"
"""In words by which Jupyter does not count the question itself as activity."""


def busy(body: bytes) -> int | None:
    """So many kernels work, by what Jupyter answers; None for an answer that is not Jupyter's."""
    try:
        found = json.loads(body)
        return sum(one["execution_state"] in WORKS for one in found) if isinstance(found, list) else None
    except (ValueError, RecursionError, KeyError, TypeError):
        return None


@dataclass
class _Known:
    """What is known of one endpoint. `path`: under which it tells of kernels."""

    address: str
    due: float = 0.0
    path: str | None = None
    strange: int = 0


class Kernels:
    """Asks each endpoint every so often; on the event loop's thread."""

    def __init__(
        self, grants: Grants, counters: Counters, sessions: Sessions, *, inside: Callable[[str], bool]
    ) -> None:
        """`inside`: whether an address is in the leases' networks; no other is asked anything."""
        self._grants = grants
        self._counters = counters
        self._sessions = sessions
        self._inside = inside
        self._known: dict[UUID, _Known] = {}

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as client:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                try:
                    await self.look(client)
                except Exception:  # what one endpoint answers, or a database away, ends no later look
                    log.exception("endpoints were not asked for kernels")

    async def look(self, client: aiohttp.ClientSession) -> None:
        """Ask those that are due, and write down what they say."""
        at = asyncio.get_running_loop().time()
        targets = {
            target.lease_id: target
            for target in self._grants.listening()
            if target.address is not None and self._inside(target.address)
        }
        self._known = {key: one for key, one in self._known.items() if key in targets}
        due = [target for target in targets.values() if self._of(target).due <= at]
        room = asyncio.Semaphore(AT_ONCE)
        found = await asyncio.gather(*(self._ask(client, target, room, at) for target in due))
        told = [one for one in found if one is not None]
        if told:
            await asyncio.to_thread(self._write, told)

    def _of(self, target: Target) -> _Known:
        known = self._known.get(target.lease_id)
        if known is None or known.address != target.address:
            known = self._known[target.lease_id] = _Known(target.address or "")
        return known

    async def _ask(
        self, client: aiohttp.ClientSession, target: Target, room: asyncio.Semaphore, at: float
    ) -> Observation | None:
        known = self._of(target)
        paths = [known.path] if known.path else [f"/{QUESTION}", f"/l/{target.name}/{QUESTION}"]
        count: int | None = None
        for path in paths:
            try:
                async with room:
                    count = await self._answer(client, target, path)
            except aiohttp.ClientConnectorError:
                count = 0 if known.path else None  # nothing listens there
            except (aiohttp.ClientError, TimeoutError):
                count = None
            if count is not None:
                known.path = path
                break
        known.strange = 0 if known.path else known.strange + 1
        known.due = at + (
            KNOWN_SECONDS if known.path else NEW_SECONDS if known.strange < PATIENCE else STRANGE_SECONDS
        )
        return None if count is None else Observation(target.lease_id, SignalKind.KERNEL, float(count))

    async def _answer(self, client: aiohttp.ClientSession, target: Target, path: str) -> int | None:
        url = f"http://{target.address}:{target.port}{path}"
        async with client.get(url, allow_redirects=False) as answer:
            body = await answer.content.read(MOST_BYTES) if answer.status == 200 else b""
            self._counters.of(target.lease_id).own_bytes += PACKETS + len(body)
            return busy(body)

    def _write(self, told: Sequence[Observation]) -> None:
        try:
            with self._sessions.begin() as session:
                signals.observe(session, told, now=now(session))
        except SQLAlchemyError as error:
            log.warning("kernels not written error=%s", str(error).splitlines()[0])
