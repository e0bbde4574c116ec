"""Who may stream from a lease: asked at the start, and again for as long as the stream lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from api.deps import signed_in
from api.streams import threads
from leasing.access import Action
from leasing.errors import NotAllowed, NotFound, NotSignedIn
from leasing.model import Lease
from leasing.service import leases

RECHECK_SECONDS = 5.0


def find(session: Session, connection: HTTPConnection, ref: str, action: Action) -> Lease:
    """The lease, for who calls. Raises `NotSignedIn`, `NotAllowed`, `NotFound`."""
    return leases.find(session, ref, principal=signed_in(connection, session).principal, action=action)


def still_allowed(connection: HTTPConnection, lease_id: UUID, action: Action) -> bool:
    """False once the token was revoked, its user disabled, or they may do that with the lease no longer."""
    try:
        with connection.app.state.sessions.begin() as session:
            find(session, connection, str(lease_id), action)
    except (NotSignedIn, NotAllowed, NotFound):
        return False
    except OperationalError:
        return True  # nothing is known now; the next look will tell
    return True


@asynccontextmanager
async def while_allowed(
    connection: HTTPConnection, lease_id: UUID, action: Action, stop: Callable[[], None]
) -> AsyncIterator[None]:
    """Calls `stop`, in a thread, once the caller may do that with the lease no longer or the process is to end."""
    watch = asyncio.create_task(_watch(connection, lease_id, action, stop))
    try:
        yield
    finally:
        watch.cancel()


async def _watch(
    connection: HTTPConnection, lease_id: UUID, action: Action, stop: Callable[[], None]
) -> None:
    fanout = connection.app.state.fanout
    async with fanout.follow(str(lease_id)) as news:
        while not fanout.closed and await run_in_threadpool(still_allowed, connection, lease_id, action):
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), RECHECK_SECONDS)
            news.clear()
    await threads.wait_for(connection.app, stop)
