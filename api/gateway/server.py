"""The gateway's process: grants kept current, traffic written down, the data plane served."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
import threading
from collections.abc import Callable
from uuid import uuid4

import uvloop
from sqlalchemy.exc import SQLAlchemyError

from api import background, certificate
from api.gateway import cache
from api.gateway.grants import ROLE, Grants
from api.gateway.kernels import Kernels
from api.gateway.plane import Network, Plane
from api.gateway.proxy import accounts
from api.gateway.proxy.front import Front
from api.gateway.traffic import Counters, write, write_times
from api.gateway.waker import Waker
from api.server import beat, leave
from leasing.database import EVENTS, GRANTS, Listener, Sessions
from leasing.errors import LeasingError
from leasing.settings.core import CoreSettings
from leasing.settings.gateway import GatewaySettings
from leasing.settings.limits import LimitSettings

log = logging.getLogger(__name__)
BACKLOG = 4096
GRACE_SECONDS = 2.0
"""At the end, what is under way has so long."""
HANDSHAKE_SECONDS = 10.0
ON_THE_WAY = ("lease.queued", "lease.placed", "lease.starting")
"""Events that open and close no endpoint: the next poll is soon enough for what a refusal says of such a lease."""


def run(
    settings: CoreSettings,
    gateway: GatewaySettings,
    *,
    sessions: Sessions,
    url: str,
    networks: list[str],
    stop: threading.Event,
) -> None:
    """Serve until `stop`. `url` is the database's, for listening; `networks` are where containers live."""
    part_id = uuid4()
    grants, counters = Grants(sessions, gateway.stale_seconds, part_id), Counters()
    wake = threading.Event()
    events, changes = (Listener(url, channel, "leasing-gateway-listen") for channel in (EVENTS, GRANTS))
    allowed: list[Network] = [ipaddress.ip_network(network) for network in networks]
    front = Front(settings, gateway, networks=networks) if gateway.plane == "haproxy" else None

    def inside(host: str) -> bool:
        return plane.inside(host)

    waker = Waker(grants, sessions, gateway, LimitSettings(), inside=inside)
    plane = Plane(
        grants, counters, sessions, gateway, api_url=settings.url, secure=settings.tls, networks=allowed,
        domain=settings.gateway_domain, fronted=front is not None, cache=cache.opened(gateway, counters), waker=waker,
    )  # fmt: skip
    grants.on_load(plane.follow)
    if front is not None:
        grants.on_load(front.push)

    def hush() -> None:
        stop.wait()
        events.stop()
        changes.stop()
        wake.set()

    beside: dict[str, Callable[[], object]] = {}
    if front is not None:
        beside["proxy"] = lambda: front.run(stop, wake.set)
    with background.beside(
        stop,
        stop=hush,
        events=lambda: _hint(events, wake),
        changes=lambda: _hint(changes, wake),
        grants=lambda: _keep(grants, wake, stop, gateway.poll_seconds),
        heartbeat=lambda: beat(sessions, ROLE, stop, part_id=part_id),
        **beside,
    ):
        uvloop.run(_serve(plane, settings, gateway, grants, counters, sessions, stop, front))
    if front is not None:
        front.close()
    leave(sessions, part_id)  # once more: the last load may have come after the heart's own


async def _serve(
    plane: Plane,
    settings: CoreSettings,
    gateway: GatewaySettings,
    grants: Grants,
    counters: Counters,
    sessions: Sessions,
    stop: threading.Event,
    front: Front | None,
) -> None:
    listening = await _listen(plane, settings, front)
    carrying = asyncio.ensure_future(plane.run())
    flush = asyncio.ensure_future(_flush(counters, grants, sessions, gateway.flush_seconds, front))
    kernels = asyncio.ensure_future(Kernels(grants, counters, sessions, inside=plane.inside).run())
    try:
        await asyncio.to_thread(stop.wait)
    finally:
        flush.cancel()
        kernels.cancel()
        listening.close()
        await plane.close(GRACE_SECONDS)
        carrying.cancel()
        if front is not None:
            accounts.add(counters, await asyncio.to_thread(front.carried))
        await asyncio.to_thread(_write, counters, grants, sessions)


async def _listen(plane: Plane, settings: CoreSettings, front: Front | None) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if front is not None:
        behind = await loop.create_unix_server(plane.caller, str(front.inner), backlog=BACKLOG)
        front.hand_over()
        return behind
    context = _tls(settings)
    return await loop.create_server(
        plane.caller, settings.listen, settings.gateway_port, ssl=context, backlog=BACKLOG,
        ssl_handshake_timeout=HANDSHAKE_SECONDS if context else None,
    )  # fmt: skip


async def _flush(
    counters: Counters, grants: Grants, sessions: Sessions, seconds: float, front: Front | None
) -> None:
    while True:
        await asyncio.sleep(seconds)
        if front is not None:
            accounts.add(counters, await asyncio.to_thread(front.carried))
        await asyncio.to_thread(_write, counters, grants, sessions)


def _write(counters: Counters, grants: Grants, sessions: Sessions) -> None:
    taken, running = counters.take(), grants.running()
    counters.forget([*running, *grants.wakeable()])
    times = counters.take_times()
    try:
        write(sessions, taken, running if grants.current else [])
        taken = {}
        write_times(sessions, times)
    except SQLAlchemyError as error:
        counters.give_back(taken)
        counters.give_back_times(times)
        log.warning("traffic not written error=%s", str(error).splitlines()[0])


def _hint(listener: Listener, wake: threading.Event) -> None:
    for payload in listener.payloads():
        if payload.partition(":")[2] not in ON_THE_WAY:
            wake.set()


def _keep(grants: Grants, wake: threading.Event, stop: threading.Event, seconds: float) -> None:
    """Read the grants on every hint, and every so often without one."""
    failing = False
    while not stop.is_set():
        wake.clear()
        try:
            grants.load()
            failing = False
        except (SQLAlchemyError, LeasingError) as error:
            if not failing:
                log.warning("grants not read error=%s", str(error).splitlines()[0])
            failing = True
        wake.wait(seconds)


def _tls(settings: CoreSettings) -> ssl.SSLContext | None:
    if not settings.tls:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(*certificate.ensure(settings))
    return context
