"""Files into containers and out of them, by the engine's own archives; what there is, by a command inside."""

from __future__ import annotations

import contextlib
import re
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from leasing.drivers.copying import MOST_ENTRIES, FileEntry, FileKind, Listing
from leasing.drivers.docker.archives import Archive
from leasing.drivers.docker.commands import NOT_EXECUTED
from leasing.drivers.docker.errors import translated
from leasing.drivers.docker.streams import ExecStream, Streams
from leasing.errors import Conflict, ContainerGone, DriverError, NotAllowed, NotFound

MISSING, CLOSED = 44, 45
LOOK = f"""
[ -e "$1" ] || [ -L "$1" ] || exit {MISSING}
stat -L -c '%f %s %Y %n' -- "$1" 2>/dev/null || stat -c '%f %s %Y %n' -- "$1" || exit {CLOSED}
[ -d "$1" ] || exit 0
cd -- "$1" || exit {CLOSED}
[ -r . ] || exit {CLOSED}
find . -mindepth 1 -maxdepth 1 -exec stat -c '%f %s %Y %n' -- {{}} +
find . -mindepth 1 -maxdepth 1 -type l -exec sh -c 'for one; do [ -d "$one" ] && echo "d $one"; done; :' sh {{}} +
exit 0
"""
"""What stands in any small image: a line with type and mode, size, time and name each, and the links to folders."""
LINE = re.compile(r"([0-9a-f]+) (\d+) (-?\d+) (.*)", re.DOTALL)
BEGINS = re.compile(r"\n(?=[0-9a-f]+ \d+ -?\d+ \./|d \./)")
"""A name may hold a line's end itself."""
MOST_BYTES = 4 * 2**20
LOOK_SECONDS = 10.0
"""The command is of the container's image, which need not answer at all; nobody is kept waiting for longer."""
ENDS_TRIES, ENDS_SECONDS = 40, 0.05
KINDS: dict[int, FileKind] = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}


class Copying(Streams):
    """The part of the driver that looks at files and copies them."""

    def list_files(self, container_id: str, path: str) -> Listing:
        process = self.exec(container_id, ["sh", "-c", LOOK, "sh", path], tty=False, aside=lambda _: None)
        try:
            said = _said(process, path)
            code = _ended(process) if len(said) < MOST_BYTES else 0
        finally:
            with contextlib.suppress(DriverError, OSError):
                process.close()
        if code == MISSING:
            raise _missing(path)
        if code == CLOSED:
            raise NotAllowed(f"{path} may not be read by the lease's user.")
        if code in (NOT_EXECUTED - 1, NOT_EXECUTED):
            raise DriverError(
                "The image has no shell to look at its files with.",
                hint="They can be copied all the same: lease cp NAME:PATH .",
            )
        if code != 0:
            raise DriverError(
                f"What is at {path} cannot be told now.", hint="Does the lease still run? lease ls"
            )
        return _listing(path, said)

    def copy_out(self, container_id: str, path: str) -> Archive:
        return Archive(self._connection, container_id, path, lambda said: _refused(path, said))

    def copy_in(self, container_id: str, path: str, archive: Iterator[bytes]) -> None:
        with self._connection.fresh() as client:
            answer = client.put(
                f"{client.base_url}/v{client.api_version}/containers/{container_id}/archive",
                params={"path": path, "noOverwriteDirNonDir": "true"},
                data=archive,
                timeout=(client.timeout, None),  # the answer comes when all has
            )
            if not answer.ok:
                raise _refused(path, answer.text)


def _said(process: ExecStream, path: str) -> bytes:
    """What it prints, or as much of it as counts. Raises `DriverError` when it takes too long."""
    late = threading.Event()

    def give_up() -> None:
        late.set()
        process.hang_up()  # which ends the reading

    timer = threading.Timer(LOOK_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    try:
        said = b""
        while len(said) < MOST_BYTES and (chunk := process.read()):
            said += chunk
    finally:
        timer.cancel()
    if late.is_set():
        raise DriverError(
            f"The container did not say within {LOOK_SECONDS:.0f} s what is at {path}.",
            hint="Look from inside: lease exec NAME",
        )
    return said


def _ended(process: ExecStream) -> int | None:
    """Its exit code: its output may end a moment before it does. None if it goes on all the same."""
    for _ in range(ENDS_TRIES):
        code = process.exit_code()
        if code is not None:
            return code
        time.sleep(ENDS_SECONDS)
    return None


def _refused(path: str, said: str) -> Exception:
    error = translated(said)
    lower = said.lower()
    if isinstance(error, ContainerGone):
        return error
    if "could not find the file" in lower or "no such file" in lower:
        return _missing(path)
    if "not a directory" in lower:
        return Conflict(f"{path} is no folder.")
    if "read-only" in lower or "read only" in lower:
        return NotAllowed(f"{path} can only be read.")
    if "cannot overwrite" in lower:
        return Conflict(f"In {path}, a folder and a file of one name stand in each other's way.")
    return error


def _missing(path: str) -> NotFound:
    return NotFound(f"There is no {path} in the container.", hint="A folder before it says what there is.")


def _listing(path: str, said: bytes) -> Listing:
    first, *rest = BEGINS.split(said.decode(errors="replace").rstrip("\n"))
    itself = _entry(first)
    if itself is None:
        raise DriverError(f"What is at {path} cannot be told: {first[:200]}")
    found = [entry for line in rest if (entry := _entry(line)) is not None]
    lead = {line[4:] for line in rest if line.startswith("d ./")}
    entries = sorted(
        (_leading(one) if one.name in lead else one for one in found),
        key=lambda one: (not one.folder, one.name.lower(), one.name),
    )
    return Listing(
        itself=itself,
        entries=tuple(entries[:MOST_ENTRIES]),
        more=len(entries) > MOST_ENTRIES or len(said) >= MOST_BYTES,
    )


def _entry(line: str) -> FileEntry | None:
    match = LINE.fullmatch(line)
    if match is None:
        return None
    mode, name = int(match[1], 16), match[4].rstrip("/").rpartition("/")[2]
    kind = KINDS.get(stat.S_IFMT(mode), "other")
    return FileEntry(
        name=name or "/",
        kind=kind,
        folder=kind == "folder",
        size_bytes=0 if kind == "folder" else int(match[2]),
        modified_at=datetime.fromtimestamp(int(match[3]), UTC),
        mode=stat.S_IMODE(mode),
    )


def _leading(link: FileEntry) -> FileEntry:
    return replace(link, folder=True, size_bytes=0)
