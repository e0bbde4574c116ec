"""Terminals that outlive the page that shows them: kept for a while, and taken up again by their id.

They live in this process alone: one that is restarted hangs up on them, and whoever comes back is told so.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from fastapi import FastAPI, WebSocket
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from api.streams import access, threads
from api.streams.room import Seat
from api.streams.scrollback import Scrollback
from api.streams.terminal import Owner, exit_code
from leasing.access import Action
from leasing.drivers.streaming import ExecStream
from leasing.errors import Conflict, LeasingError, NotFound
from leasing.model import Lease
from leasing.states import LeaseState

log = logging.getLogger(__name__)
KEPT_SECONDS = 600.0
"""So long may nobody look at one."""
AHEAD_BYTES = 64 * 1024
"""So much may it have printed that has not gone out yet, while somebody looks."""
TOLD_SECONDS = 60.0
"""So long is it remembered why one has ended, if nobody was there to be told."""
MOST_EACH = 8
"""Of one user in one lease."""
SETTLES_SECONDS = 2.0
"""A command that was killed may be the first sign that its lease stops; so long is that waited for."""
KILLED = (None, 129, 137, 143)


class Kept:
    """One process with its terminal, what it printed last, and who looks. Only its owner may look at it again."""

    def __init__(
        self, app: FastAPI, owner: Owner, process: ExecStream, socket: WebSocket, seat: Seat
    ) -> None:
        """`seat` is left once the process has ended."""
        self.id = secrets.token_urlsafe(16)
        self.owner = owner
        self.process = process
        self.printed = Scrollback()
        self.ended: dict[str, Any] | None = None
        self.told = False
        self._app = app
        self._socket = socket
        self._seat = seat
        self._viewer: object | None = None
        self._shown = 0
        self._left_at = asyncio.get_running_loop().time()
        self._changed = asyncio.Event()
        self._cause = ""

    def take(self, socket: WebSocket) -> tuple[object, bytes]:
        """Look at it through `socket` from now on; whoever did so far no longer does. What stands for the look, and
        what was printed before."""
        self._socket, self._viewer = socket, object()
        self._shown = self.printed.end
        self._wake()
        return self._viewer, self.printed.whole()

    def leave(self, viewer: object) -> None:
        if self._viewer is viewer:
            self._viewer = None
            self._left_at = asyncio.get_running_loop().time()
            self._wake()

    async def show(self, viewer: object, send: Callable[[bytes], Awaitable[None]]) -> bool:
        """What it prints from now on, until it has ended (True) or somebody else looks (False)."""
        while self._viewer is viewer:
            changed = self._changed
            if self._shown < self.printed.end:
                data, self._shown = self.printed.since(self._shown), self.printed.end
                await send(data)
                self._wake()
            elif self.ended is not None:
                return True
            else:
                await changed.wait()
        return False

    def tell(self) -> None:
        """Somebody was told how it ended."""
        self.told = True
        self._wake()

    def fit(self, columns: int, rows: int) -> None:
        """To the window that shows it now. A program that has the whole screen is made to paint it anew."""
        with suppress(LeasingError):  # it has ended
            if self.printed.full_screen and rows > 1:
                self.process.resize(columns=columns, rows=rows - 1)
            self.process.resize(columns=columns, rows=rows)

    async def live(self) -> None:
        """Read what it prints until it ends; the caller runs this beside everything else."""
        guard = asyncio.create_task(self._guard())
        try:
            while data := await threads.wait_for(self._app, self.process.read):
                self.printed.add(data)
                self._wake()
                await self._not_too_fast()
            self.ended = await self._ending()
        finally:
            guard.cancel()
            self._seat.leave()
            self.ended = self.ended or {"exit_code": None, "reason": "It was broken off."}
            self._wake()
            with suppress(LeasingError):  # the container, or its engine, went first
                await run_in_threadpool(self.process.close)
        if self._viewer is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._looked_at(), TOLD_SECONDS)

    async def _not_too_fast(self) -> None:
        """Who looks is to miss nothing: a slow one holds the process up. With nobody there the oldest goes."""
        while self._viewer is not None and self.printed.end - self._shown > AHEAD_BYTES:
            changed = self._changed
            await changed.wait()

    async def _looked_at(self) -> None:
        while not self.told:
            changed = self._changed
            await changed.wait()

    async def _guard(self) -> None:
        """Hang up once whoever opened it may no longer enter, has been away for too long, or this process ends. A look
        that fails hangs up as well: nobody may type where nobody watches."""
        try:
            async with self._app.state.fanout.follow(str(self.owner.lease_id)) as news:
                while not self._cause:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(news.wait(), access.RECHECK_SECONDS)
                    news.clear()
                    self._cause = await self._over()
        except Exception:
            log.exception("a look at a terminal failed, it is ended lease=%s", self.owner.lease_id)
            self._cause = "Whether you may still enter this lease could not be told."
        with suppress(LeasingError):
            await threads.wait_for(self._app, self.process.close)

    async def _over(self) -> str:
        """Why it has to end now; nothing while it may go on."""
        away = asyncio.get_running_loop().time() - self._left_at
        if self._app.state.fanout.closed:
            return "The platform is being restarted."
        if self._viewer is None and away > KEPT_SECONDS:
            return f"Nobody looked at it for {KEPT_SECONDS / 60:.0f} minutes."
        if not await run_in_threadpool(access.still_allowed, self._socket, self.owner.lease_id, Action.ENTER):
            return "You may no longer enter this lease, or have signed out."
        return ""

    async def _ending(self) -> dict[str, Any]:
        """Its exit code, and a sentence where it did not end by itself."""
        code = await run_in_threadpool(exit_code, self.process)
        reason, loop = self._cause, asyncio.get_running_loop()
        until = loop.time() + SETTLES_SECONDS
        async with self._app.state.fanout.follow(str(self.owner.lease_id)) as news:
            while not reason and code in KILLED:
                reason = await run_in_threadpool(self._of_lease)
                if reason or loop.time() >= until:
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), max(0.0, until - loop.time()))
                news.clear()
        return {"exit_code": code, "reason": reason}

    def _of_lease(self) -> str:
        """What became of the lease; nothing while it runs."""
        try:
            with self._app.state.sessions() as session:
                lease = session.get(Lease, self.owner.lease_id)
        except SQLAlchemyError:
            return ""
        if lease is None or lease.state == LeaseState.RUNNING:
            return ""
        over = "has ended" if lease.state == LeaseState.ENDED else f"is {lease.state}"
        return f"Lease {lease.name!r} {over}{f': {lease.message}' if lease.message else ''}."

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Terminals:
    """All of them in this process; on the event loop's thread."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}
        self._living: set[asyncio.Task[None]] = set()

    def check_room(self, owner: Owner) -> None:
        """Raises `Conflict` when somebody has too many open in a lease."""
        count = sum(one.owner == owner and one.ended is None for one in self._kept.values())
        if count >= MOST_EACH:
            raise Conflict(
                f"You have {count} terminals open in this lease, and {MOST_EACH} is the most.",
                hint=f"Leave one by `exit`; one that nobody looks at goes after {KEPT_SECONDS / 60:.0f} minutes.",
            )

    def keep(self, kept: Kept) -> None:
        self._kept[kept.id] = kept
        task = asyncio.create_task(kept.live())
        self._living.add(task)
        task.add_done_callback(lambda done: self._forget(kept, done))

    def find(self, terminal: str, owner: Owner) -> Kept:
        """Raises `NotFound`, also for somebody else's."""
        kept = self._kept.get(terminal)
        if kept is None or kept.owner != owner:
            raise NotFound(
                "That terminal is gone: it has ended, nobody looked at it for too long, or the platform was restarted.",
                hint="Open another one.",
            )
        return kept

    def _forget(self, kept: Kept, task: asyncio.Task[None]) -> None:
        self._kept.pop(kept.id, None)
        self._living.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever looked; asked for here, or it would be logged as never asked for
