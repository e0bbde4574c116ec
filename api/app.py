"""The api as one application, put together from what it is given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from fastapi import APIRouter, FastAPI
from sqlalchemy.orm import Session

from api import openapi, problems
from api.limits import InputLimits
from api.routers import (
    cluster,
    contacts,
    endpoints,
    environments,
    health,
    history,
    leases,
    people,
    policies,
    projects,
    quotas,
    registries,
    reservations,
    sharing,
    usage,
    warm,
    workspaces,
)
from api.streams import events, export, files, logs, terminal, terminals, threads, tunnel
from api.streams.fanout import Fanout
from api.streams.kept import Terminals
from api.streams.place import Connect
from api.streams.room import Room
from api.streams.typed import Typed
from leasing import __version__
from leasing.database import Sessions
from leasing.schema.cluster import EnvironmentOut
from leasing.settings.core import CoreSettings
from leasing.settings.limits import LimitSettings
from leasing.settings.notify import NotifySettings

THREADS = 40
"""Operations that run at the same time; each holds one database connection at most."""
CONNECTIONS = 40
"""To the database, of a process that serves this."""
UNITS = 30
"""Requests that may hold a connection while they wait for a thread: fewer than there are of either, so that what takes
and gives back a connection within a thread always comes to its end."""
CONNECTION_SECONDS = 5.0
"""So long is a connection waited for: longer than any wait that ends by itself, shorter than a caller's patience."""


def create_app(
    *,
    settings: CoreSettings,
    limits: LimitSettings,
    sessions: Sessions,
    url: str,
    connect: Connect,
    metrics: Callable[[Session], bytes],
    catalogue: Sequence[EnvironmentOut],
    notify: NotifySettings | None = None,
) -> FastAPI:
    """`url` is the database's, for listening; `connect` opens an engine for streaming; `metrics` renders a scrape."""
    fanout = Fanout(url)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        fanout.start()
        yield
        fanout.stop()

    app = FastAPI(
        title="Leasing",
        version=__version__,
        summary="Lease GPU containers.",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.settings, app.state.limits, app.state.notify = settings, limits, notify or NotifySettings()
    app.state.sessions, app.state.fanout = sessions, fanout
    app.state.units = anyio.CapacityLimiter(UNITS)
    app.state.connect, app.state.metrics = connect, metrics
    app.state.stream_threads, app.state.stream_room = threads.pool(), Room()
    app.state.typed = Typed(sessions)
    app.state.terminals = Terminals()
    app.state.catalogue = tuple(catalogue)
    openapi.describe(app)
    problems.install(app)
    app.add_middleware(InputLimits)
    v1 = APIRouter(prefix="/api/v1")
    for part in (
        events,
        logs,
        leases,
        cluster,
        contacts,
        endpoints,
        environments,
        history,
        people,
        policies,
        projects,
        quotas,
        registries,
        reservations,
        sharing,
        usage,
        warm,
        workspaces,
        export,
        files,
    ):
        v1.include_router(part.router)
    v1.include_router(terminal.router)
    v1.include_router(tunnel.router)
    v1.include_router(terminals.router)
    app.include_router(v1)
    app.include_router(health.router)
    return app
