"""`lease serve`: the composition root, the one place that knows every part.

Without a role it is the whole platform on one machine: the database, migrations, then each part as a process of its own
that is started again when it dies. With a role it is that part.
"""

from __future__ import annotations

import logging
import os
import secrets as random
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from sqlalchemy.orm import Session

from api import certificate
from leasing import __version__
from leasing.database import Sessions, create_engine, migrate, plain_url, sessions
from leasing.database import now as database_now
from leasing.drivers.docker import DockerDriver
from leasing.drivers.protocol import Driver, RegistryLogin
from leasing.errors import DriverError, HostError, Invalid, NotSignedIn
from leasing.host import engine as container_engine
from leasing.host import firewall, firewall_use, listening, revisions
from leasing.host.postgres import Postgres, running_url
from leasing.host.reviver import Reviver
from leasing.host.supervisor import Child, Supervisor
from leasing.model import TokenKind
from leasing.sdk import credentials
from leasing.secrets import key
from leasing.service import cluster, installation, people
from leasing.settings.core import CoreSettings
from leasing.settings.docker import DockerSettings
from leasing.settings.firewall import FirewallSettings
from leasing.settings.node import NodeSettings

if TYPE_CHECKING:
    from scheduler.process import Scheduler

log = logging.getLogger("leasing.serve")
ROLES = ("api", "gateway", "scheduler", "node")
LOCAL = "local"
READY_SECONDS = 60.0
STOP_SECONDS = 10.0


def serve(role: str, listen: str | None) -> None:
    """Until SIGTERM or Ctrl-C. Raises `HostError`, `Invalid`."""
    if listen is not None:
        os.environ["LEASING_LISTEN"] = listen
    settings = CoreSettings()
    logging.basicConfig(
        level=settings.log_level,
        format=f"%(asctime)s %(levelname)s {role} %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for chatty in ("httpx", "httpcore", "apscheduler", "alembic", "urllib3", "docker"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if role == "all":
        _everything(settings, stop)
    elif role in ROLES:
        _part(role, settings, stop)
    else:
        raise HostError(f"There is no role {role!r}.", hint=f"Roles: all, {', '.join(ROLES)}.")


def _part(role: str, settings: CoreSettings, stop: threading.Event) -> None:
    # Each part loads its own code only: five processes start at once, and to load it all is most of a start.
    if role == "node":
        from monitoring import node

        node.run(NodeSettings(), stop)
        return
    url = settings.database_url
    if url is None:
        raise HostError(f"The {role} needs a database.", hint="Set LEASING_DATABASE_URL, or run: lease serve")
    docker = DockerSettings()
    if role == "scheduler":
        with firewall_use.relying():
            _guard()  # what runs already may have lost its rules with the machine's last start
            _scheduler(url, settings, docker).run(stop)
        return
    made = sessions(create_engine(url, f"leasing-{role}", pool_size=20))
    if role == "gateway":
        from api.gateway import server as gateway_server
        from leasing.settings.gateway import GatewaySettings

        gateway_server.run(
            settings, GatewaySettings(), sessions=made, url=url, networks=[docker.network_pool], stop=stop
        )
        return
    _api(url, settings, docker, made, stop)


def _api(
    url: str, settings: CoreSettings, docker: DockerSettings, made: Sessions, stop: threading.Event
) -> None:
    import web
    from api import server as api_server
    from api.app import create_app
    from images.catalogue import load
    from leasing.schema.cluster import EnvironmentOut
    from leasing.settings.limits import LimitSettings
    from leasing.settings.notify import NotifySettings
    from monitoring import collector

    app = create_app(
        settings=settings,
        limits=LimitSettings(),
        sessions=made,
        url=url,
        connect=_Drivers(docker).connect,
        metrics=collector.render,
        notify=NotifySettings(),
        catalogue=[
            EnvironmentOut(
                name=one.name, title=one.title, description=one.description, reference=one.reference, ready=False,
                port=one.port,
            )
            for one in load().values()
        ],
    )  # fmt: skip
    web.mount(app)
    api_server.run(app, settings, made, stop)


def _scheduler(url: str, settings: CoreSettings, docker: DockerSettings) -> Scheduler:
    from leasing.secrets import signing_key
    from leasing.service import links, registries
    from leasing.settings.scheduler import SchedulerSettings
    from scheduler.delivery.postman import Keys
    from scheduler.process import Scheduler

    made = sessions(create_engine(url, "leasing-scheduler-logins", pool_size=2))
    fernet = key(settings.secret_key_file())

    def login(reference: str) -> RegistryLogin | None:
        with made() as session:
            return registries.login_for(session, reference, fernet)

    return Scheduler(
        url,
        connect=_Drivers(docker).connect,
        logins=login,
        settings=SchedulerSettings(),
        docker=docker,
        guard=_guard,
        pages=settings.url,
        keys=Keys(fernet, signing_key(settings.secret_key_file(), links.PURPOSE)),
    )


def _guard() -> None:
    """An engine's restart may take the rules away: they are looked at every minute."""
    found = firewall.ensure(FirewallSettings())
    if found.state is not firewall.State.APPLIED:
        log.warning("firewall not in place state=%s detail=%s", found.state, found.detail)


class _Drivers:
    """Opens each engine once; thread-safe."""

    def __init__(self, docker: DockerSettings) -> None:
        self._docker = docker
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], Driver] = {}

    def connect(self, driver: str, address: str) -> Driver:
        if driver != "docker":
            raise HostError(f"There is no driver {driver!r}.")
        with self._lock:
            found = self._open.get((driver, address))
            if found is None:
                found = self._open[driver, address] = DockerDriver(
                    address or self._docker.address, self._docker
                )
            return found


def _everything(settings: CoreSettings, stop: threading.Event) -> None:
    certificate.check(settings)
    _make_room(settings)
    if settings.database_url is not None or running_url(settings.state_dir) is None:
        _check_ports(settings)  # of one that runs on this folder already, the lock tells more than its ports
    with Postgres.open(settings.state_dir, settings.database_url) as database:
        revisions.check(database.url)
        migrate(database.url)
        link = _prepare(settings, database.url)
        supervisor = Supervisor([_child(role, settings, database.url) for role in ROLES])
        try:
            _look_for_engine()
            supervisor.tick()
            if _wait_until_ready(settings, supervisor, stop):
                _greet(settings, database, link)
            revive = Reviver(database)
            while not stop.wait(0.2):
                revive.tick()
                supervisor.tick()
        finally:
            print("Stopping; leases keep running.", flush=True)
            supervisor.stop(STOP_SECONDS)


def _make_room(settings: CoreSettings) -> None:
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        (settings.state_dir / "pg.lock").open("a").close()
    except OSError as error:
        raise HostError(
            f"{settings.state_dir} cannot be written by this user: {error.strerror}.",
            hint="Choose a folder of your own with LEASING_STATE_DIR, or run it as the user who did so far.",
        ) from error


def _check_ports(settings: CoreSettings) -> None:
    """A part that cannot listen would only die again and again."""
    nodes = NodeSettings()
    listening.check(settings.listen, settings.port, variable="LEASING_PORT")
    listening.check(settings.listen, settings.gateway_port, variable="LEASING_GATEWAY_PORT")
    listening.check(nodes.listen, nodes.port, variable="LEASING_NODE_PORT")


def _look_for_engine() -> None:
    """Everything but containers works without one, so that it may come later."""
    docker = DockerSettings()
    driver = DockerDriver(docker.address, docker)
    try:
        if os.geteuid() != 0:
            container_engine.ensure(docker.address, lambda _: None)  # it says what a user lacks
        driver.probe()
    except (DriverError, HostError) as error:
        log.warning("no container engine, leases wait until there is one: %s", error)
    finally:
        driver.close()


def _prepare(settings: CoreSettings, url: str) -> str:
    """What must be there before the parts start; a sign-in link for the first admin."""
    fingerprint = (
        certificate.fingerprint(certificate.ensure(settings, renew=True)[0]) if settings.tls else None
    )
    key(settings.secret_key_file())
    (settings.state_dir / "url").write_text(f"{settings.url}\n")
    _keep_secret(settings.metrics_token_file(), None)
    engine = create_engine(url, "leasing-prepare", pool_size=1)
    try:
        with sessions(engine).begin() as session:
            moment = database_now(session)
            installation.get_or_create(session)
            _, token = cluster.register_node(
                session, LOCAL, driver="docker", address=DockerSettings().address
            )
            _keep_secret(settings.state_dir / "node.token", token)
            admin = people.bootstrap_admin(session)
            for_browser, _ = people.signin_secret(session, admin, now=moment, actor="system")
            shell = _kept_token(session, settings)
            if shell is None:
                for_shell, _ = people.signin_secret(session, admin, now=moment, actor="system")
                _, shell = people.sign_in(session, for_shell, TokenKind.API, "this machine", now=moment)
    finally:
        engine.dispose()
    credentials.save(credentials.Credentials(settings.url, shell, fingerprint))
    return f"{settings.url}/signin?secret={for_browser}"


def _kept_token(session: Session, settings: CoreSettings) -> str | None:
    """The token this machine's command line has from an earlier start, if it still is one."""
    try:
        kept = credentials.kept()
        if kept is None or kept.url != settings.url:
            return None
        people.authenticate(session, kept.token)
    except (Invalid, NotSignedIn):
        return None
    return kept.token


def _keep_secret(path: Path, secret: str | None) -> None:
    """Write a secret readable by us only; without one given, make one up unless there is one."""
    if secret is None and path.exists():
        return
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write((secret or random.token_urlsafe(32)) + "\n")


def _child(role: str, settings: CoreSettings, url: str) -> Child:
    environment = os.environ | {
        "LEASING_STATE_DIR": str(settings.state_dir),
        "LEASING_DATABASE_URL": plain_url(url),
    }
    if role == "node":
        environment |= {
            "LEASING_NODE_NAME": LOCAL,
            "LEASING_NODE_API": settings.url if settings.tls_certificate else _here(settings, settings.port),
            "LEASING_NODE_TOKEN_FILE": str(settings.state_dir / "node.token"),
            "LEASING_NODE_METRICS_TOKEN_FILE": str(settings.metrics_token_file()),
        }
        environment.pop("LEASING_DATABASE_URL")  # it needs none, and so has none
        if settings.tls and settings.tls_certificate is None:
            environment["LEASING_NODE_API_CERTIFICATE"] = str(certificate.ensure(settings)[0])
    return Child(role, [sys.executable, "-m", "leasing.cli.app", "serve", "--role", role], environment)


def _here(settings: CoreSettings, port: int) -> str:
    """An address of ours for this machine itself, which people's name for it need not be."""
    host = "127.0.0.1" if settings.loopback or settings.listen == "0.0.0.0" else settings.listen  # noqa: S104 - compared
    return f"{settings.scheme}://{host}:{port}"


def _wait_until_ready(settings: CoreSettings, supervisor: Supervisor, stop: threading.Event) -> bool:
    """Whether it answered in time that leases will be served, with their endpoints, and the node has reported."""
    deadline = time.monotonic() + READY_SECONDS
    while not stop.wait(0.1):
        supervisor.tick()
        try:
            with httpx.Client(verify=False, timeout=2.0, trust_env=False) as client:  # noqa: S501 - our own process
                ready = client.get(f"{_here(settings, settings.port)}/readyz").status_code == 200
                client.get(_here(settings, settings.gateway_port))  # any answer will do: it listens
                if ready:
                    return True
        except httpx.HTTPError:
            pass
        if any(count >= 3 for count in supervisor.restarts.values()):
            names = ", ".join(name for name, count in supervisor.restarts.items() if count >= 3)
            raise HostError(f"{names} does not start; the lines above say why.")
        if time.monotonic() > deadline:
            raise HostError(
                f"The platform was not ready within {READY_SECONDS:.0f} s; the lines above say why."
            )
    return False


def _greet(settings: CoreSettings, database: Postgres, link: str) -> None:
    command = Path(sys.argv[0])
    lease = os.path.relpath(command) if command.name == "lease" else "lease"
    print(
        f"""
Leasing {__version__} is up, on PostgreSQL {database.version} ({database.how}).

  Pages      {settings.url}
  Sign in    {link}
             once, within 15 minutes; this machine's command line is signed in already
  Endpoints  {settings.gateway_url}/l/<lease>/

  Try        {lease} up demo --port 8000 -- python3 -m http.server 8000

Ctrl-C stops the platform; leases keep running.""",
        flush=True,
    )
    if settings.tls:
        print(
            f"\nCertificate's SHA-256 fingerprint: {certificate.fingerprint(certificate.ensure(settings)[0])}",
            flush=True,
        )
    if settings.listen == "0.0.0.0" and settings.public_host is None:  # noqa: S104 - compared, not bound
        print(
            "These addresses are good on this machine only. To have every link name it as others do, start with"
            f"\nLEASING_PUBLIC_HOST={socket.gethostname()}, or whatever others know it by.",
            flush=True,
        )
