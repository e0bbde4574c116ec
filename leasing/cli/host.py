"""Commands for the server's own machine: they reach the database and the engine directly, without a token."""

from __future__ import annotations

import shutil
from pathlib import Path

import typer

from leasing.database import create_engine, sessions
from leasing.database import now as database_now
from leasing.drivers.docker import DockerDriver
from leasing.errors import DriverError, HostError
from leasing.host import firewall, postgres_backup
from leasing.host.postgres import Postgres, running_url
from leasing.service import installation, people
from leasing.settings.core import CoreSettings
from leasing.settings.docker import DockerSettings


def backup(path: str) -> None:
    """The database, in one file; the platform may run meanwhile."""
    settings = CoreSettings()
    postgres_backup.dump(_running(settings), Path(path))
    print(f"Written to {path}. Keep {settings.secret_key_file()} with it: stored registry logins need it.")


def restore(path: str) -> None:
    """The platform must be stopped: what runs would go on writing into what is replaced."""
    settings = CoreSettings()
    if settings.database_url is None and running_url(settings.state_dir) is not None:
        raise HostError("The platform is running.", hint="Stop it first (Ctrl-C at make run), then restore.")
    with Postgres.open(settings.state_dir, settings.database_url) as database:
        postgres_backup.restore(database.url, Path(path))
    print("Restored. The next start brings it to this version: make run")


def signin_link(name: str | None) -> None:
    """For whoever lost every token; who may run this may read the database anyway."""
    settings = CoreSettings()
    engine = create_engine(_running(settings), "leasing-signin-link", pool_size=1)
    with sessions(engine).begin() as session:
        moment = database_now(session)
        who = name or people.bootstrap_admin(session)
        secret, _ = people.signin_secret(session, who, now=moment, actor="system")
    engine.dispose()
    print(f"{settings.url}/signin?secret={secret}")


def uninstall(*, yes: bool, workspaces: bool) -> None:
    """Only what carries this installation's label, and its own folder."""
    settings = CoreSettings()
    running = settings.database_url is None and running_url(settings.state_dir) is not None
    if running:
        raise HostError("The platform is running.", hint="Stop it first (Ctrl-C at make run).")
    if not settings.state_dir.exists():
        print(f"There is nothing in {settings.state_dir}.")
        return
    kept = "and people's workspaces" if workspaces else "but not people's workspaces"
    if not yes:
        typer.confirm(f"Remove all leases' containers and {settings.state_dir}, {kept}?", abort=True)
    with Postgres.open(settings.state_dir, settings.database_url) as database:
        engine = create_engine(database.url, "leasing-uninstall", pool_size=1)
        with sessions(engine).begin() as session:
            own = installation.get_or_create(session)
        engine.dispose()
    _remove(own, workspaces=workspaces)
    if settings.database_url is None:
        shutil.rmtree(settings.state_dir)
    gone = "and the firewall's rules" if firewall.remove() else "; the firewall's rules stay"
    print(f"Removed containers, networks, {settings.state_dir} {gone}.")


def _remove(own: str, *, workspaces: bool) -> None:
    settings = DockerSettings()
    driver = DockerDriver(settings.address, settings)
    try:
        for container in driver.containers(own):
            driver.remove(container.name, network=None)
        for network in driver.networks(own):
            driver.remove_network(network)
        if workspaces:
            for volume in driver.volumes(own):
                driver.remove_volume(volume)
    except DriverError as error:
        print(f"Containers were left: {error}")
    finally:
        driver.close()


def _running(settings: CoreSettings) -> str:
    url = settings.database_url or running_url(settings.state_dir)
    if url is None:
        raise HostError(
            f"No database of {settings.state_dir} is running.", hint="Start the platform: make run"
        )
    return url
