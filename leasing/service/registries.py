"""Logins at private image registries."""

from __future__ import annotations

import sqlalchemy as sa
from cryptography.fernet import Fernet
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.drivers.protocol import RegistryLogin
from leasing.errors import NotFound
from leasing.model import RegistryCredential
from leasing.schema.cluster import RegistryIn, RegistryOut, RegistryPage
from leasing.secrets import unseal
from leasing.service import events
from leasing.service.principal import Principal

DEFAULT_HOST = "docker.io"


def host_of(reference: str) -> str:
    """The registry an image reference names: its first part if that looks like a host, as Docker reads it."""
    first, slash, _ = reference.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else DEFAULT_HOST


def store(session: Session, ask: RegistryIn, fernet: Fernet, *, principal: Principal) -> RegistryOut:
    """Keep a login, replacing the one for that host."""
    sealed = fernet.encrypt(ask.secret.encode())
    new = insert(RegistryCredential).values(host=ask.host, username=ask.username, sealed_secret=sealed)
    session.execute(
        new.on_conflict_do_update(
            index_elements=[RegistryCredential.host], set_={"username": ask.username, "sealed_secret": sealed}
        )
    )
    message = f"{principal.name} stored a login for {ask.host}"
    events.record(session, "registry.stored", message, actor=principal.actor)
    row = session.get_one(RegistryCredential, ask.host, populate_existing=True)
    return RegistryOut.model_validate(row)


def page(session: Session) -> RegistryPage:
    """Which there are; never their secrets."""
    rows = session.execute(sa.select(RegistryCredential).order_by(RegistryCredential.host)).scalars()
    return RegistryPage(items=[RegistryOut.model_validate(row) for row in rows])


def remove(session: Session, host: str, *, principal: Principal) -> None:
    """Raises `NotFound`."""
    row = session.get(RegistryCredential, host)
    if row is None:
        raise NotFound(f"There is no login for {host[:60]!r}.")
    session.delete(row)
    events.record(
        session, "registry.removed", f"{principal.name} removed the login for {host}", actor=principal.actor
    )


def login_for(session: Session, reference: str, fernet: Fernet) -> RegistryLogin | None:
    """The login for an image's registry, if one is kept."""
    row = session.get(RegistryCredential, host_of(reference))
    if row is None:
        return None
    return RegistryLogin(host=row.host, username=row.username, secret=unseal(fernet, row.sealed_secret))
