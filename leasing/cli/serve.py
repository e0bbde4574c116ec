"""`lease serve`: the whole platform on one machine: the database, migrations, then each part as a process of its own
that is started again when it dies. With `leasing.cli.part`, which is one of them, it is the composition root.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets as random
import socket
import sys
import threading
import time
from pathlib import Path

import httpx
from sqlalchemy.orm import Session

from api import certificate
from leasing import __version__
from leasing.cli.part import ROLES
from leasing.database import create_engine, plain_url, sessions
from leasing.database import now as database_now
from leasing.drivers.docker import DockerDriver
from leasing.errors import DriverError, HostError, Invalid, NotSignedIn
from leasing.host import engine as container_engine
from leasing.host import listening, revisions
from leasing.host.postgres import Postgres, running_url
from leasing.host.reviver import Reviver
from leasing.host.supervisor import Child, Supervisor
from leasing.migrating import migrate
from leasing.model import TokenKind
from leasing.sdk import credentials
from leasing.secrets import key
from leasing.service import cluster, installation, people
from leasing.settings.core import CoreSettings
from leasing.settings.docker import DockerSettings
from leasing.settings.node import NodeSettings

log = logging.getLogger("leasing.serve")
LOCAL = "local"
READY_SECONDS = 60.0
STOP_SECONDS = 10.0


def serve(settings: CoreSettings, stop: threading.Event) -> None:
    """Until `stop`. Raises `HostError`, `Invalid`."""
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
    with httpx.Client(verify=False, timeout=2.0, trust_env=False) as client:  # noqa: S501 - our own process
        while not stop.wait(0.1):
            supervisor.tick()
            with contextlib.suppress(httpx.HTTPError):
                ready = client.get(f"{_here(settings, settings.port)}/readyz").status_code == 200
                client.get(_here(settings, settings.gateway_port))  # any answer will do: it listens
                if ready:
                    return True
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
  Endpoints  {settings.endpoint_url("<lease>")}

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
