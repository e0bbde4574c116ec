"""What OpenSSH's client needs to know on this machine: a key, the leases' host keys, and how to connect.

The key opens nothing by itself: each connection brings its public half to the api, with the token, and is let in by it.
A lease's host key comes the same way before ssh asks for it, so nobody is ever asked whether to trust one.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leasing.errors import HostError
from leasing.sdk import credentials

SUFFIX = ".lease"
HEAD = "# Written by `lease config-ssh`, which overwrites it; `lease config-ssh --remove` removes it.\n"
MOST_KNOWN = 1000
"""Host keys that are remembered; the oldest go, and come again with their lease."""


def host(name: str) -> str:
    """What ssh calls a lease."""
    return name if name.endswith(SUFFIX) else f"{name}{SUFFIX}"


def folder() -> Path:
    return credentials.folder() / "ssh"


def prepare() -> None:
    """The key is there, made at first use. Raises `HostError`."""
    if _key().exists():
        return
    from cryptography.hazmat.primitives import serialization as form  # lazy: needed once on a machine
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    made = Ed25519PrivateKey.generate()
    private = made.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    public = made.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    with _locked():
        if not _key().exists():
            _write(_key().with_suffix(".pub"), public.decode() + "\n")
            _write(_key(), private.decode())


def public_key() -> str:
    """Type and key, without a comment. Raises `HostError`."""
    path = _key().with_suffix(".pub")
    try:
        return " ".join(path.read_text().split()[:2])
    except OSError as error:
        raise HostError(
            f"{path} cannot be read: {error.strerror}.", hint=f"Remove {_key()}: a new one is made."
        ) from error


def know(name: str, key: str) -> None:
    """From now on ssh finds that key at the host of that name, and believes no other. Raises `HostError`."""
    path = _known_hosts()
    line = f"{name} {key}"
    with _locked():
        lines = path.read_text().splitlines() if path.exists() else []
        if line not in lines:
            others = [one for one in lines if one.split(" ")[0] != name]
            _write(path, "\n".join([*others[-MOST_KNOWN:], line, ""]))


def options() -> list[str]:
    """What makes a plain ssh reach leases, as its configuration words it."""
    return [
        "User lease",
        f"ProxyCommand {_command()} ssh-proxy %h",
        f"IdentityFile {_quoted(_key())}",
        "IdentitiesOnly yes",
        "PreferredAuthentications publickey",
        f"UserKnownHostsFile {_quoted(_known_hosts())}",
        "GlobalKnownHostsFile /dev/null",
        "HostKeyAlgorithms ssh-ed25519",
        "StrictHostKeyChecking yes",
        "UpdateHostKeys no",
        "CheckHostIP no",
        # the connection below is watched already, and what is sent for this alone would look like somebody at work
        "ServerAliveInterval 0",
    ]


def file() -> Path:
    """Where `install` writes."""
    return _home() / "leasing.conf"


def install() -> bool:
    """Leave the user's own configuration as it is, but for one line at its top; whether anything changed.

    Raises `HostError`.
    """
    prepare()
    text = f"{HEAD}Host *{SUFFIX}\n" + "".join(f"    {one}\n" for one in options())
    main = _main()
    try:
        _home().mkdir(mode=0o700, parents=True, exist_ok=True)
        before = main.read_text() if main.exists() else ""
        changed = not file().exists() or file().read_text() != text
    except OSError as error:
        raise _unusable(error) from error
    if changed:
        _write(file(), text)
    if _include() not in before.splitlines():
        # a line below a `Host` would hold for that host only
        _write(main, f"{_include()}\n\n{before}" if before else f"{_include()}\n")
        changed = True
    return changed


def uninstall() -> bool:
    """What `install` did is undone; whether there was anything. The key stays. Raises `HostError`."""
    main = _main()
    try:
        before = main.read_text() if main.exists() else ""
        after = before.replace(f"{_include()}\n\n", "", 1)
        if after == before:
            own = _include()
            after = "".join(line for line in before.splitlines(keepends=True) if line.strip() != own)
        found = file().exists() or after != before
        file().unlink(missing_ok=True)
        if before and not after:
            main.unlink()
    except OSError as error:
        raise _unusable(error) from error
    if after and after != before:
        _write(main, after)
    return found


def _include() -> str:
    return f'Include "{file()}"'


def _home() -> Path:
    return Path.home() / ".ssh"


def _main() -> Path:
    """The user's configuration, which for many is a link into a folder that they keep elsewhere."""
    return (_home() / "config").resolve()


def _key() -> Path:
    return folder() / "key"


def _known_hosts() -> Path:
    return folder() / "known_hosts"


def _command() -> str:
    """This command line, as a shell of the user starts it: from an editor's window the PATH may be another."""
    own = Path(sys.argv[0])
    found = str(own.absolute()) if own.name == "lease" and own.is_file() else shutil.which("lease")
    words = [found] if found else [sys.executable, "-m", "leasing.cli.app"]
    if "LEASING_CONFIG_DIR" in os.environ or "XDG_CONFIG_HOME" in os.environ:
        words = ["env", f"LEASING_CONFIG_DIR={credentials.folder().absolute()}", *words]
    return shlex.join(words).replace("%", "%%")


def _quoted(path: Path) -> str:
    text = str(path.absolute()).replace("%", "%%")
    return f'"{text}"'


@contextmanager
def _locked() -> Iterator[None]:
    """Several connections begin at once when an editor starts."""
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        with (folder() / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise _unusable(error) from error


def _write(path: Path, text: str) -> None:
    """Whole or not at all, readable by this user only."""
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "w") as out:
            out.write(text)
        Path(part).replace(path)
    except OSError as error:
        raise _unusable(error) from error


def _unusable(error: OSError) -> HostError:
    return HostError(
        f"{error.filename or folder()} cannot be used: {error.strerror}.",
        hint="Choose another folder for tokens and keys with LEASING_CONFIG_DIR.",
    )
