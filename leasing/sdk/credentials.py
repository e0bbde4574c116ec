"""Where a person's token is kept: one file, readable by them only."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from leasing.errors import HostError, Invalid, NotSignedIn


@dataclass(frozen=True)
class Credentials:
    """A server and the token for it; `fingerprint` pins a certificate of the server's own making."""

    url: str
    token: str
    fingerprint: str | None = None

    def __repr__(self) -> str:
        return f"Credentials(url={self.url!r})"


def folder() -> Path:
    """LEASING_CONFIG_DIR, or `leasing` in the user's configuration folder."""
    if own := os.environ.get("LEASING_CONFIG_DIR"):
        return Path(own)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "leasing"


def file() -> Path:
    return folder() / "credentials.json"


def load() -> Credentials:
    """From LEASING_URL and LEASING_TOKEN, else from the file; a certificate accepted for that address stays accepted.

    Raises `NotSignedIn`, `Invalid`, `HostError`.
    """
    url, token = os.environ.get("LEASING_URL", "").rstrip("/"), os.environ.get("LEASING_TOKEN")
    if url and token:
        with suppress(Invalid, HostError):  # a file that is not needed need not be whole
            found = kept()
            return Credentials(url, token, found.fingerprint if found and found.url == url else None)
        return Credentials(url, token)
    found = kept()
    if found is None:
        raise NotSignedIn(
            "You are not signed in.",
            hint="Sign in: lease login LINK, with the link that `make run` or an admin shows.",
        )
    if url and url != found.url:
        raise NotSignedIn(
            f"There is no token for {url}.", hint=f"Sign in there: lease login {url} --token TOKEN"
        )
    return Credentials(found.url, token or found.token, found.fingerprint)


def kept() -> Credentials | None:
    """What the last sign-in on this machine left. Raises `Invalid` for a file that is none of ours, `HostError`."""
    try:
        return _read(json.loads(file().read_text()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreachable(error, file()) from error
    except (ValueError, TypeError) as error:
        raise Invalid(f"{file()} is damaged.", hint="Sign in again: lease login LINK") from error


def _read(said: Any) -> Credentials:
    """Raises `TypeError` for anything but what `save` writes."""
    if not (
        isinstance(said, dict) and isinstance(said.get("url"), str) and isinstance(said.get("token"), str)
    ):
        raise TypeError("an address and a token are text")
    return Credentials(**said)


def save(credentials: Credentials) -> Path:
    """Keep them, whole or not at all; the file. Raises `HostError`."""
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=folder(), prefix=".credentials-")
        with os.fdopen(handle, "w") as out:
            json.dump(asdict(credentials), out, indent=2)
        Path(part).replace(file())  # mkstemp made it 0600
    except OSError as error:
        raise _unreachable(error, folder()) from error
    return file()


def forget() -> None:
    """Sign out on this machine. Raises `HostError`."""
    try:
        file().unlink(missing_ok=True)
    except OSError as error:
        raise _unreachable(error, file()) from error


def _unreachable(error: OSError, path: Path) -> HostError:
    return HostError(
        f"{path} cannot be used: {error.strerror}.",
        hint="Choose another folder with LEASING_CONFIG_DIR, or bring LEASING_URL and LEASING_TOKEN.",
    )
