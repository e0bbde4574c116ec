"""A tar from a stranger, made safe to be unpacked with an engine's rights: piece by piece, nothing held in memory.

What comes out is below the folder that it is meant for, belongs to the lease's user, and is files, folders and links
only. Nothing is written through a link that the archive itself brought.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, cast

from leasing.errors import Invalid

UID = 1000
CHUNK = 64 * 1024
MOST_ENTRIES = 200_000
MOST_NAME = 4096
MOST_HEADER = 1024 * 1024
"""Of what is said of one file before its content, which is read as a whole."""
SETUID = 0o7000
END = bytes(2 * tarfile.BLOCKSIZE)


class Inflow:
    """A file to read from, out of pieces as they come. Nothing is asked for before it is needed."""

    def __init__(self, more: Callable[[], bytes | None]) -> None:
        """`more` gives the next piece, None at the end."""
        self._more = more
        self._held = b""
        self.room: int | None = None
        """So much may be read before somebody says how much more; None: any."""

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end only. Raises `ValueError` past `room`."""
        if self.room is not None:
            self.room -= size
            if self.room < 0:
                raise ValueError(f"a header is longer than {MOST_HEADER} bytes")
        parts = [self._held]
        got = len(self._held)
        while got < size and (piece := self._more()) is not None:
            parts.append(piece)
            got += len(piece)
        whole = b"".join(parts)
        self._held = whole[size:]
        return whole[:size]


def cleaned(source: Inflow, *, most_bytes: int) -> Iterator[bytes]:
    """Raises `Invalid` for what is no tar, holds what may not be unpacked, or is more than that."""
    source.room = MOST_HEADER
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", source), mode="r|", bufsize=CHUNK) as tar:
            yield from _members(tar, source, most_bytes)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise Invalid(f"That is no whole tar: {error}.", hint="An uncompressed one is expected.") from error
    yield END


@dataclass
class _Seen:
    """What the archive brought so far."""

    links: set[PurePosixPath] = field(default_factory=set)
    files: set[PurePosixPath] = field(default_factory=set)
    folders: set[PurePosixPath] = field(default_factory=lambda: {PurePosixPath()})


def _members(tar: tarfile.TarFile, source: Inflow, most_bytes: int) -> Iterator[bytes]:
    seen = _Seen()
    size = count = 0
    for entry in tar:
        tar.members.clear()  # type: ignore[attr-defined]  # or it would remember each
        count, size = count + 1, size + entry.size
        if count > MOST_ENTRIES:
            raise Invalid(f"One upload may have {MOST_ENTRIES} files.", hint="Send it in parts.")
        if size > most_bytes:
            raise Invalid(
                f"One upload may have {most_bytes} bytes.",
                hint="Send it in parts, or have an admin raise LEASING_LIMITS_UPLOAD_BYTES.",
            )
        name = _inside(entry.name)
        if name == PurePosixPath():  # the folder itself
            continue
        if any(parent in seen.links for parent in name.parents):
            raise Invalid(f"{entry.name[:200]!r} lies behind a link that the archive brings.")
        for parent in reversed(name.parents):  # an engine would make those that are missing, as root's
            if parent not in seen.folders:
                seen.folders.add(parent)
                yield _packed(_made(parent, tarfile.DIRTYPE, entry.mtime, 0o755))
        yield _packed(_own(entry, name, seen))
        if entry.isreg():
            source.room = None
            yield from _content(tar, entry)
        source.room = MOST_HEADER


def _own(entry: tarfile.TarInfo, name: PurePosixPath, seen: _Seen) -> tarfile.TarInfo:
    """It as the lease's user's. Raises `Invalid` for what may not be unpacked."""
    made = _made(name, entry.type, entry.mtime)
    if entry.isreg():
        made.type, made.size, made.mode = tarfile.REGTYPE, entry.size, _mode(entry.mode, 0o600)
        seen.files.add(name)
    elif entry.isdir():
        made.mode = _mode(entry.mode, 0o700)
        seen.folders.add(name)
    elif entry.issym():
        made.linkname, made.mode = _target(name, entry.linkname), 0o777
        seen.links.add(name)
    elif entry.islnk() and _inside(entry.linkname) in seen.files:
        made.linkname, made.mode = str(_inside(entry.linkname)), _mode(entry.mode, 0o600)
    else:
        raise Invalid(
            f"{entry.name[:200]!r} is neither file nor folder nor link.", hint="Leave it out of the archive."
        )
    return made


def _made(name: PurePosixPath, kind: bytes, at: float, mode: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(str(name))
    made.uid = made.gid = UID
    made.mtime, made.type, made.mode = at, kind, mode
    return made


def _packed(made: tarfile.TarInfo) -> bytes:
    return made.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Iterator[bytes]:
    held = tar.extractfile(entry)
    assert held is not None, "a regular file has content"
    left = entry.size
    while left:
        piece = held.read(min(CHUNK, left))
        if not piece:
            raise tarfile.ReadError("it ends in the middle of a file")
        left -= len(piece)
        yield piece
    if rest := entry.size % tarfile.BLOCKSIZE:
        yield bytes(tarfile.BLOCKSIZE - rest)


def _inside(name: str) -> PurePosixPath:
    """Raises `Invalid` for what does not stay below the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or len(name) > MOST_NAME:
        raise Invalid(f"{name[:200]!r} does not stay below the folder that it is sent to.")
    return path


def _target(name: PurePosixPath, target: str) -> str:
    """A link may point anywhere in the container by its whole path; up from where it lies, not out of the folder."""
    depth = len(name.parts) - 1
    for part in () if target.startswith("/") else PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            raise Invalid(f"The link {str(name)[:200]!r} leads out of the folder that it is sent to.")
    if not target or "\0" in target or len(target) > MOST_NAME:
        raise Invalid(f"The link {str(name)[:200]!r} leads nowhere.")
    return target


def _mode(mode: int, least: int) -> int:
    """Its owner reads and writes it; nothing runs as somebody else."""
    return (mode & 0o777 & ~SETUID) | least
