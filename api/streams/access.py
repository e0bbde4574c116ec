"""Who may stream from a lease: asked at the start, and again for as long as the stream lasts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from uuid import UUID

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from api.deps import signed_in
from api.streams import threads
from leasing.access import Action
from leasing.database import Sessions
from leasing.errors import NotAllowed, NotFound, NotSignedIn
from leasing.model import Lease
from leasing.service import leases

log = logging.getLogger(__name__)
RECHECK_SECONDS = 5.0


def find(session: Session, connection: HTTPConnection, ref: str, action: Action) -> tuple[Lease, UUID]:
    """The lease, and the user who calls. Raises `NotSignedIn`, `NotAllowed`, `NotFound`."""
    caller = signed_in(connection, session).principal
    return leases.find(session, ref, principal=caller, action=action), caller.user_id


def still_allowed(connection: HTTPConnection, lease_id: UUID, action: Action) -> bool:
    """False once the token was revoked, its user disabled, or they may do that with the lease no longer."""
    sessions = connection.app.state.sessions
    return holds(sessions, lambda session: find(session, connection, str(lease_id), action))


def holds(sessions: Sessions, look: Callable[[Session], object]) -> bool:
    """Whether `look` still refuses nothing. True where the database cannot tell now: the next look will."""
    try:
        with sessions.begin() as session:
            look(session)
    except (NotSignedIn, NotAllowed, NotFound):
        return False
    except SQLAlchemyError as error:  # away, failing over, or without a connection to spare
        log.warning("no look at who streams error=%s", type(error).__name__)
    return True


@asynccontextmanager
async def while_allowed(
    connection: HTTPConnection, lease_id: UUID, action: Action, stop: Callable[[], None]
) -> AsyncIterator[None]:
    """Calls `stop`, in a thread, once the caller may do that with the lease no longer or the process is to end."""
    still = partial(still_allowed, connection, lease_id, action)
    watching = asyncio.create_task(watch(connection.app, lease_id, still, stop, RECHECK_SECONDS))
    try:
        yield
    finally:
        watching.cancel()


async def watch(
    app: FastAPI, of: UUID, still: Callable[[], bool], stop: Callable[[], None], seconds: float
) -> None:
    """Calls `stop` once `still` says no, asked at any news of that lease or workspace and every so many seconds. A
    look that fails says no as well: nothing may flow that nobody watches."""
    fanout = app.state.fanout
    try:
        async with fanout.follow(str(of)) as news:
            while not fanout.closed and await run_in_threadpool(still):
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), seconds)
                news.clear()
    except Exception:
        log.exception("a look at who streams failed, the stream is ended of=%s", of)
    await threads.wait_for(app, stop)
