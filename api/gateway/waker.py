"""Calls that wake their lease wait until its application listens again; however many they are, it is woken once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from api.gateway.grants import Grants, Target, Visitor
from api.gateway.problems import Problem
from leasing.database import Sessions, now
from leasing.errors import LeasingError
from leasing.service import waking
from leasing.service.principal import Principal
from leasing.settings.gateway import GatewaySettings
from leasing.settings.limits import LimitSettings
from leasing.states import LeaseState, Role, SuspendReason

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.1
"""A lease that is on its way is looked after so often while calls wait for it, ..."""
REST_SECONDS = 1.0
"""... and so often while none does."""
KNOCK_SECONDS = 1.0
AGAIN_SECONDS = 3.0
"""What was woken and is still asleep after that is woken once more."""
REFUSED_SECONDS = 2.0
"""A waking that was refused is not tried again sooner: every call would cost the database a transaction."""
LEAST_RETRY, MOST_RETRY, USUAL_RETRY = 1, 300, 10
AWAKENING = frozenset(
    {LeaseState.STOPPING, LeaseState.SUSPENDED, LeaseState.QUEUED, LeaseState.PLACED, LeaseState.STARTING}
)
"""Where a lease may be from falling asleep to running again."""


@dataclass
class Waking:
    """One lease's, from its first call to the moment its application listens."""

    task: asyncio.Task[Problem | None]
    calls: int = 0
    """So many wait for it."""
    telling: asyncio.Lock = field(default_factory=asyncio.Lock)
    told: tuple[float, Problem] | None = None
    """What those were told who have waited long enough, and when."""


class Waker:
    """`api.gateway.hooks.Waker`, for leases told to wake (`--wake`) that were suspended as idle."""

    def __init__(
        self,
        grants: Grants,
        sessions: Sessions,
        settings: GatewaySettings,
        limits: LimitSettings,
        *,
        inside: Callable[[str], bool],
    ) -> None:
        """`inside` says whether an address is in the leases' networks: no other is knocked at."""
        self._grants = grants
        self._sessions = sessions
        self._settings = settings
        self._limits = limits
        self._inside = inside
        self._wakings: dict[UUID, Waking] = {}
        self._refused: dict[UUID, tuple[float, Problem]] = {}

    def wakes(self, visitor: Visitor, target: Target) -> bool:  # noqa: ARG002 - whoever may call it may wake it
        if not target.endpoint.wake or target.port is None:
            return False
        if target.state == LeaseState.RUNNING:
            return target.lease_id in self._wakings  # its application does not listen yet
        return target.suspend_reason == SuspendReason.IDLE and target.state in AWAKENING

    async def wake(self, visitor: Visitor, target: Target) -> Problem | None:
        at = asyncio.get_running_loop().time()
        if (refused := self._refused.get(target.lease_id)) is not None and refused[0] > at:
            return refused[1]
        one = self._wakings.get(target.lease_id)
        if one is None:
            one = self._wakings[target.lease_id] = Waking(
                asyncio.ensure_future(self._bring_back(visitor, target))
            )
            one.task.add_done_callback(lambda _: self._wakings.pop(target.lease_id, None))
        if one.calls >= self._settings.wake_calls:
            most = self._settings.wake_calls
            words = f"Lease {target.name!r} is being woken, and {most} calls wait for it already."
            return Problem(503, "waking", words, retry=USUAL_RETRY)
        one.calls += 1
        try:
            await asyncio.wait({one.task}, timeout=self._settings.wake_seconds)
        finally:
            one.calls -= 1
        return one.task.result() if one.task.done() else await self._outlook(one, target)

    async def close(self) -> None:
        """Wait for nothing any more. The leases go their way."""
        tasks = [one.task for one in self._wakings.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _bring_back(self, visitor: Visitor, target: Target) -> Problem | None:
        """Until its application listens, or the rule has something to say of the lease: then None. Or why not."""
        loop = asyncio.get_running_loop()
        wake_at, patience = loop.time(), math.inf
        while True:
            present = self._grants.target(target.name)
            if present is None or present.lease_id != target.lease_id or not present.endpoint.wake:
                return None
            if present.state == LeaseState.RUNNING:
                patience = min(patience, loop.time() + self._settings.wake_seconds)
                if loop.time() > patience or await self._listens(present):
                    return None
            elif not self.wakes(visitor, present):
                return None
            elif present.state == LeaseState.SUSPENDED and loop.time() >= wake_at:
                wake_at = loop.time() + AGAIN_SECONDS
                problem = await asyncio.to_thread(self._resume, visitor, present)
                if problem is not None:
                    self._refuse(target.lease_id, problem, loop.time())
                    return problem
            await asyncio.sleep(LOOK_SECONDS if self._wakings[target.lease_id].calls else REST_SECONDS)

    async def _listens(self, target: Target) -> bool:
        if target.address is None or not self._inside(target.address):
            return True  # the rule says what is wrong with it
        try:
            async with asyncio.timeout(KNOCK_SECONDS):
                _, writer = await asyncio.open_connection(target.address, target.port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    def _resume(self, visitor: Visitor, target: Target) -> Problem | None:
        role = Role.ADMIN if visitor.admin else Role.DEVELOPER
        principal = Principal(visitor.user_id, visitor.name, role, visitor.token_id, visitor.lease_id)
        try:
            with self._sessions.begin() as session:
                waking.wake(
                    session, target.lease_id, principal=principal, limits=self._limits, now=now(session)
                )
        except LeasingError as error:
            words = f"Lease {target.name!r} sleeps and cannot be woken: {error.message}"
            said = f"{words} {error.hint}" if error.hint else words
            return Problem(503, error.code, said, retry=math.ceil(REFUSED_SECONDS))
        except SQLAlchemyError as error:
            log.warning("not woken lease=%s error=%s", target.lease_id, str(error).splitlines()[0])
            return Problem(
                503, "unavailable", "The database does not answer; try again shortly.", retry=USUAL_RETRY
            )
        return None

    def _refuse(self, lease_id: UUID, problem: Problem, at: float) -> None:
        self._refused = {key: one for key, one in self._refused.items() if one[0] > at}
        self._refused[lease_id] = at + REFUSED_SECONDS, problem

    async def _outlook(self, one: Waking, target: Target) -> Problem:
        """Where it stands, looked up at most once a second however many ask."""
        loop = asyncio.get_running_loop()
        async with one.telling:
            if one.told is None or loop.time() - one.told[0] > REST_SECONDS:
                one.told = loop.time(), await asyncio.to_thread(self._look, target)
            return one.told[1]

    def _look(self, target: Target) -> Problem:
        said, retry = "", USUAL_RETRY
        with contextlib.suppress(SQLAlchemyError), self._sessions() as session:
            moment = now(session)
            why = waking.outlook(session, target.lease_id, now=moment)
            said = f" {why.summary}" if why else ""
            if why and why.expected_start is not None:
                said += f" It is expected to start at {why.expected_start:%H:%M:%S %Z}."
                left = (why.expected_start - moment).total_seconds()
                retry = max(LEAST_RETRY, min(MOST_RETRY, math.ceil(left)))
        return Problem(503, "waking", f"Lease {target.name!r} is being woken.{said}", retry=retry)
