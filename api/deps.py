"""What an operation is given: a session that is committed once at the edge, and who asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

import anyio
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from leasing.errors import NotAllowed, NotSignedIn, Unavailable
from leasing.service import people
from leasing.service.people import SignedIn
from leasing.service.principal import Principal
from leasing.settings.core import CoreSettings
from leasing.settings.limits import LimitSettings
from leasing.settings.notify import NotifySettings

COOKIE = "leasing_session"
SAFE = ("GET", "HEAD", "OPTIONS")
TURN_SECONDS = 15.0


# What waits for nothing here is `async`: a plain function would be handed to a thread and back, once each.


async def session(request: Request) -> AsyncIterator[Session]:
    """One unit of work for the request: committed when the operation succeeds, before the answer is sent."""
    async with _turn(request.app.state.units):
        unit: Session = request.app.state.sessions()  # takes a connection with its first statement
        try:
            yield unit
        except BaseException:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(unit.close)
            raise
        await run_in_threadpool(_commit, unit)


@asynccontextmanager
async def _turn(units: anyio.CapacityLimiter) -> AsyncIterator[None]:
    """One of the units of work that may be open at one time. Raises `Unavailable`.

    Each keeps its connection while it waits for a thread, between its dependencies, the operation and its end. Were
    there as many as connections, all threads could be waiting for one of these.
    """
    try:
        with anyio.fail_after(TURN_SECONDS):
            await units.acquire()
    except TimeoutError as error:
        raise Unavailable("Too many ask at one time.", hint="Try again in a few seconds.") from error
    try:
        yield
    finally:
        units.release()


def _commit(unit: Session) -> None:
    with unit:
        unit.commit()


Unit = Annotated[Session, Depends(session, scope="function")]


def secret_of(request: HTTPConnection) -> str:
    """The caller's token: a Bearer header, or the browser's cookie if the call comes from our own pages.

    Raises `NotSignedIn`, and `NotAllowed` for a cookie that another origin's page sends along.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    cookie = request.cookies.get(COOKIE)
    if not cookie:
        raise NotSignedIn("You are not signed in.", hint="Sign in: lease login URL")
    check_origin(request)
    return cookie


def check_origin(request: HTTPConnection) -> None:
    """A lease's own pages run on another origin, and must never act as the visitor here. Raises `NotAllowed`."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    scheme = {"ws": "http", "wss": "https"}.get(request.url.scheme, request.url.scheme)
    own = f"{scheme}://{request.headers.get('host', '')}"
    safe = request.scope.get("method") in SAFE  # a WebSocket has no method, and is not
    foreign = (origin is not None and origin != own) or site in ("cross-site", "same-site")
    navigation = request.headers.get("sec-fetch-mode") == "navigate" and safe
    unproven = origin is None and site is None and not safe
    if (foreign and not navigation) or unproven:
        raise NotAllowed("That call came from another site's page.")


def signed_in(request: HTTPConnection, unit: Session) -> SignedIn:
    """Who calls. Raises `NotSignedIn`, and `NotAllowed` for a token that is good elsewhere only."""
    found = people.authenticate(unit, secret_of(request))
    if found.principal.lease_id is not None:
        raise NotAllowed("That token opens one lease's endpoint only.")
    return found


def authenticated(request: Request, unit: Unit) -> SignedIn:
    return signed_in(request, unit)


Authenticated = Annotated[SignedIn, Depends(authenticated)]


async def caller(found: Authenticated) -> Principal:
    return found.principal


Caller = Annotated[Principal, Depends(caller)]


async def now(found: Authenticated) -> datetime:
    """The database's clock, read with the caller's token."""
    return found.now


Now = Annotated[datetime, Depends(now)]


def only_admins(caller: Principal) -> Principal:
    """Raises `NotAllowed`."""
    if not caller.admin:
        raise NotAllowed("Only admins may do that.")
    return caller


async def admin(caller: Caller) -> Principal:
    return only_admins(caller)


Admin = Annotated[Principal, Depends(admin)]


async def core(request: Request) -> CoreSettings:
    settings: CoreSettings = request.app.state.settings
    return settings


async def limits(request: Request) -> LimitSettings:
    settings: LimitSettings = request.app.state.limits
    return settings


async def notify(request: Request) -> NotifySettings:
    settings: NotifySettings = request.app.state.notify
    return settings


Core = Annotated[CoreSettings, Depends(core)]
Notify = Annotated[NotifySettings, Depends(notify)]
Limits = Annotated[LimitSettings, Depends(limits)]
