"""Commands for the server's own machine: they reach the database and the engine directly, without a token."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import typer
from sqlalchemy.orm import Session

from leasing.database import create_engine, sessions
from leasing.database import now as database_now
from leasing.drivers.docker import DockerDriver
from leasing.errors import DriverError, HostError, LeasingError
from leasing.host import firewall, firewall_use, postgres_backup, revisions
from leasing.host.postgres import Postgres, running_url
from leasing.model import RegistryCredential
from leasing.sdk import credentials
from leasing.secrets import key, unseal
from leasing.service import installation, people
from leasing.settings.core import CoreSettings
from leasing.settings.docker import DockerSettings

OWN = ("pg", "logs", "embedded*postgres-*", "pg.*", "secret.key", "*.token", "tls.crt", "tls.key", "url")
"""What the platform keeps in its state folder: nothing else there is ours to remove."""

BUSY = sa.text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'leasing-%' AND pid <> pg_backend_pid()
""")


def backup(path: str) -> None:
    """The database, in one file; the platform may run meanwhile."""
    with _as_its_owner() as settings:
        postgres_backup.dump(_running(settings), Path(path))
        print(
            f"Written to {path}. Keep {settings.secret_key_file()} with it: stored registry logins need it."
        )


def restore(path: str) -> None:
    """The platform must be stopped: what runs would go on writing into what is replaced."""
    with _as_its_owner() as settings:
        _must_be_stopped(settings)
        with Postgres.open(settings.state_dir, settings.database_url) as database:
            postgres_backup.restore(database.url, Path(path), known=revisions.known())
            with _session(database.url) as session:
                sealed = _unreadable(session, settings)
    print("Restored. The next start brings it to this version: make run")
    if sealed:
        print(
            f"{settings.secret_key_file()} is not the key that sealed the logins for {', '.join(sealed)}: put the one "
            "kept with the backup in its place, or store them anew (lease admin registries add)."
        )


def signin_link(name: str | None) -> None:
    """For whoever lost every token; who may run this may read the database anyway."""
    with _as_its_owner() as settings, _session(_running(settings)) as session:
        moment = database_now(session)
        who = name or people.bootstrap_admin(session)
        secret, _ = people.signin_secret(session, who, now=moment, actor="system")
        session.commit()
        print(f"{_address(settings)}/signin?secret={secret}")


def uninstall(*, yes: bool, workspaces: bool) -> None:
    """Only what carries this installation's label, and what the platform itself wrote into its folder."""
    with _as_its_owner() as settings:
        if not settings.state_dir.exists():
            print(f"There is nothing in {settings.state_dir}.")
            return
        _must_be_stopped(settings)
        kept = "and people's workspaces" if workspaces else "but not people's workspaces"
        question = f"Remove all leases' containers and the data in {settings.state_dir}, {kept}?"
        if not yes and not typer.confirm(question):
            raise LeasingError("Nothing was removed.")
        with Postgres.open(settings.state_dir, settings.database_url) as database:
            own = _installation(database.url)
        removed = _remove(own, workspaces=workspaces) if own else Removed()
        left = _clear(settings)
        with firewall_use.nobody_relies() as last:
            rules = last and firewall.remove()
    print(
        f"Removed {removed.said()}, the data in {settings.state_dir}{' and the firewall rules' if rules else ''}."
    )
    if removed.workspaces_kept:
        print(
            f"Kept people's workspaces: {', '.join(removed.workspaces_kept)} "
            "(docker volume rm removes one; a file of it may lie in the engine's leasing-workspaces)."
        )
    if not rules:
        print("Kept the firewall rules: another installation uses them, or only root may remove them.")
    if left:
        print(f"Kept what is not the platform's in {settings.state_dir}: {', '.join(left)}.")
    if settings.database_url is not None:
        print("Kept the database of LEASING_DATABASE_URL with everything in it: it is yours to drop.")
    print("Kept images and the container engine.")


@dataclass
class Removed:
    """What has gone from the engine, and what was left to its owners."""

    containers: int = 0
    networks: int = 0
    workspaces: int = 0
    workspaces_kept: tuple[str, ...] = ()

    def said(self) -> str:
        counted = ((self.containers, "container"), (self.networks, "network"), (self.workspaces, "workspace"))
        return ", ".join(f"{count} {word}{'s' if count != 1 else ''}" for count, word in counted)


def _remove(own: str, *, workspaces: bool) -> Removed:
    settings, removed = DockerSettings(), Removed()
    driver = DockerDriver(settings.address, settings)
    try:
        for container in driver.containers(own):
            driver.remove(container.name, network=None)
            removed.containers += 1
        for network in driver.networks(own):
            driver.remove_network(network)
            removed.networks += 1
        for image in driver.images():
            if image.kept_by(own):  # files of suspended leases, which nobody could go on with any more
                driver.remove_image(next(iter(image.tags), image.id))
        volumes = tuple(driver.volumes(own))
        if not workspaces:
            removed.workspaces_kept = volumes
        else:
            for volume in volumes:
                driver.remove_volume(volume)
                removed.workspaces += 1
    except DriverError as error:
        raise HostError(
            f"The data stays, for containers may have been left that nothing else knows of. {error}",
            hint="When the engine answers again: lease admin uninstall",
        ) from error
    finally:
        driver.close()
    return removed


def _clear(settings: CoreSettings) -> list[str]:
    """Remove what is ours in the state folder, and the folder if nothing else is in it; the names of what else is."""
    kept = credentials.kept()
    if kept is not None and kept.url == _address(settings):
        credentials.forget()
    for pattern in OWN:
        for path in settings.state_dir.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    left = sorted(path.name for path in settings.state_dir.iterdir())
    if not left:
        settings.state_dir.rmdir()
    return left


def _installation(url: str) -> str | None:
    """Its id; None if it never came so far as to have one."""
    with _session(url) as session:
        if not sa.inspect(session.connection()).has_table("installation"):
            return None
        return installation.get_or_create(session)


def _unreadable(session: Session, settings: CoreSettings) -> list[str]:
    """The registries whose logins the key of this state folder does not open."""
    if not sa.inspect(session.connection()).has_table("registry_credential"):
        return []
    fernet, found = key(settings.secret_key_file()), []
    for host, sealed in session.execute(
        sa.select(RegistryCredential.host, RegistryCredential.sealed_secret).order_by(RegistryCredential.host)
    ):
        try:
            unseal(fernet, sealed)
        except HostError:
            found.append(host)
    return found


def _must_be_stopped(settings: CoreSettings) -> None:
    if settings.database_url is None:
        running = running_url(settings.state_dir) is not None
    else:
        with _session(_running(settings)) as session:
            running = session.execute(BUSY).scalar_one() > 0
    if running:
        raise HostError(
            "The platform is running.", hint="Stop it first (Ctrl-C at make run), then try again."
        )


def _running(settings: CoreSettings) -> str:
    """The address of a database that answers. Raises `HostError`."""
    if settings.database_url is not None:
        return Postgres.open(settings.state_dir, settings.database_url).url
    url = running_url(settings.state_dir)
    if url is None:
        raise HostError(
            f"No database of {settings.state_dir} is running.", hint="Start the platform: make run"
        )
    return url


def _address(settings: CoreSettings) -> str:
    """Where it was last served: its `--listen` is not known to the shell of another command."""
    try:
        return (settings.state_dir / "url").read_text().strip()
    except FileNotFoundError:
        return settings.url


@contextmanager
def _as_its_owner() -> Iterator[CoreSettings]:
    """The settings, for whoever may read the state folder's files. Raises `HostError` for anybody else."""
    settings = CoreSettings()
    try:
        yield settings
    except PermissionError as error:
        raise HostError(
            f"{error.filename or settings.state_dir} belongs to the user who runs the platform.",
            hint="Run this as that user; as root: sudo -E",
        ) from error


@contextmanager
def _session(url: str) -> Iterator[Session]:
    engine = create_engine(url, "leasing-host", pool_size=1)
    try:
        with sessions(engine)() as session:
            yield session
    finally:
        engine.dispose()
