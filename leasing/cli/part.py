"""`lease serve --role ROLE`: one part of the platform, put together.

With `leasing.cli.serve`, which starts them all, this is the composition root: the two may import every part. Each part
loads its own code only, for four processes start at once, and to load it all is most of a start.
"""

from __future__ import annotations

import gc
import logging
import resource
import threading
from typing import TYPE_CHECKING

from leasing.errors import HostError
from leasing.settings.core import CoreSettings

if TYPE_CHECKING:
    from leasing.database import Sessions
    from leasing.drivers.protocol import Driver, RegistryLogin
    from leasing.settings.docker import DockerSettings
    from scheduler.process import Scheduler

log = logging.getLogger(__name__)
ROLES = ("api", "gateway", "scheduler", "node")


def serve(role: str, settings: CoreSettings, stop: threading.Event) -> None:
    """Be that part until `stop`. Raises `HostError`, `Invalid`."""
    if role not in ROLES:
        raise HostError(f"There is no role {role!r}.", hint=f"Roles: all, {', '.join(ROLES)}.")
    _allow_files()
    gc.disable()  # while code is loaded: none of it is garbage, and looking is a tenth of the time
    if role == "node":
        _node(stop)
        return
    url = settings.database_url
    if url is None:
        raise HostError(f"The {role} needs a database.", hint="Set LEASING_DATABASE_URL, or run: lease serve")
    {"api": _api, "gateway": _gateway, "scheduler": _scheduler}[role](url, settings, stop)


def _allow_files() -> None:
    """As many open files and sockets as the machine lets a process have.

    The usual 1,024 are soon too few: a call through the gateway takes two, a container that is measured eight.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _node(stop: threading.Event) -> None:
    from leasing.settings.node import NodeSettings
    from monitoring import node

    _loaded()
    node.run(NodeSettings(), stop)


def _gateway(url: str, settings: CoreSettings, stop: threading.Event) -> None:
    from api.gateway import server
    from leasing.settings.docker import DockerSettings
    from leasing.settings.gateway import GatewaySettings

    _loaded()
    server.run(
        settings,
        GatewaySettings(),
        sessions=_sessions(url, "gateway", 20),
        url=url,
        networks=[DockerSettings().network_pool],
        stop=stop,
    )


def _api(url: str, settings: CoreSettings, stop: threading.Event) -> None:
    import web
    from api import server
    from api.app import CONNECTION_SECONDS, CONNECTIONS, create_app
    from images.catalogue import load
    from leasing.schema.cluster import EnvironmentOut
    from leasing.settings.docker import DockerSettings
    from leasing.settings.limits import LimitSettings
    from leasing.settings.notify import NotifySettings
    from monitoring import collector

    made = _sessions(url, "api", CONNECTIONS // 2, CONNECTION_SECONDS)
    app = create_app(
        settings=settings,
        limits=LimitSettings(),
        sessions=made,
        url=url,
        connect=Drivers(DockerSettings()).connect,
        metrics=collector.render,
        notify=NotifySettings(),
        catalogue=[
            EnvironmentOut(
                name=one.name, title=one.title, description=one.description, reference=one.reference, ready=False,
                port=one.port, inside=one.inside,
            )
            for one in load().values()
        ],
    )  # fmt: skip
    web.mount(app)
    _loaded()
    server.run(app, settings, made, stop)


def _scheduler(url: str, settings: CoreSettings, stop: threading.Event) -> None:
    from leasing.host import firewall_use
    from leasing.settings.docker import DockerSettings

    with firewall_use.relying():
        guard()  # what runs already may have lost its rules with the machine's last start
        made = _made_scheduler(url, settings, DockerSettings())
        _loaded()
        made.run(stop)


def _made_scheduler(url: str, settings: CoreSettings, docker: DockerSettings) -> Scheduler:
    from leasing.secrets import key, signing_key
    from leasing.service import links, registries
    from leasing.settings.scheduler import SchedulerSettings
    from scheduler.delivery.postman import Keys
    from scheduler.process import Scheduler

    made = _sessions(url, "scheduler-logins", 2)
    fernet = key(settings.secret_key_file())

    def login(reference: str) -> RegistryLogin | None:
        with made() as session:
            return registries.login_for(session, reference, fernet)

    return Scheduler(
        url,
        connect=Drivers(docker).connect,
        logins=login,
        settings=SchedulerSettings(),
        docker=docker,
        guard=guard,
        pages=settings.url,
        keys=Keys(fernet, signing_key(settings.secret_key_file(), links.PURPOSE)),
    )


def _loaded() -> None:
    """What there is by now stays: the collector need not look at it again."""
    gc.freeze()
    gc.enable()


def guard() -> None:
    """An engine's restart may take the rules away: they are looked at every minute."""
    from leasing.host import firewall
    from leasing.settings.firewall import FirewallSettings

    found = firewall.ensure(FirewallSettings())
    if found.state is not firewall.State.APPLIED:
        log.warning("firewall not in place state=%s detail=%s", found.state, found.detail)


def _sessions(url: str, name: str, pool_size: int, pool_seconds: float = 30.0) -> Sessions:
    from leasing.database import create_engine, sessions

    return sessions(create_engine(url, f"leasing-{name}", pool_size=pool_size, pool_seconds=pool_seconds))


class Drivers:
    """Opens each engine once; thread-safe."""

    def __init__(self, docker: DockerSettings) -> None:
        self._docker = docker
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], Driver] = {}

    def connect(self, driver: str, address: str) -> Driver:
        from leasing.drivers.docker import DockerDriver

        if driver != "docker":
            raise HostError(f"There is no driver {driver!r}.")
        with self._lock:
            found = self._open.get((driver, address))
            if found is None:
                found = self._open[driver, address] = DockerDriver(
                    address or self._docker.address, self._docker
                )
            return found
