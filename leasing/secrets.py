"""Sealing what must be read again, such as a registry's password, with the installation's own key."""

from __future__ import annotations

import hmac
import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from leasing.errors import HostError


def key(path: Path) -> Fernet:
    """The installation's key, made at first use, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # exclusive: of two processes that start at once, one makes it and the other reads it
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(handle, "wb") as file:
            file.write(Fernet.generate_key())
    try:
        return Fernet(path.read_bytes().strip())
    except ValueError as error:
        raise HostError(f"{path} is not a key.", hint="Restore it from a backup, or remove it.") from error


def signing_key(path: Path, purpose: str) -> bytes:
    """A key made of the installation's own, good for that purpose only."""
    key(path)
    return hmac.digest(path.read_bytes().strip(), f"leasing:{purpose}".encode(), "sha256")


def unseal(fernet: Fernet, sealed: bytes) -> str:
    """The secret. Raises `HostError` when it was sealed with another key."""
    try:
        return fernet.decrypt(sealed).decode()
    except InvalidToken as error:
        raise HostError(
            "A stored secret was sealed with another key.",
            hint="Restore secret.key from the backup, or store it anew.",
        ) from error
