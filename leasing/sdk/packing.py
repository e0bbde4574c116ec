"""Files of this machine as a tar that flows, and back: neither side holds more than a piece of one."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, cast

from leasing.errors import Conflict, LeasingError

CHUNK = 256 * 1024
END = bytes(2 * tarfile.BLOCKSIZE)
Moved = Callable[[int], None]
"""Is told of each piece of content: so many bytes."""


@dataclass
class Copied:
    """What went over. `skipped`: what did not, with the reason each."""

    files: int = 0
    bytes: int = 0
    skipped: list[str] = field(default_factory=list)


def size_of(sources: Iterable[Path]) -> int:
    """Bytes of all files in them, as they are now."""
    return sum(found.st_size for one in sources for _, found in _walk(one) if stat.S_ISREG(found.st_mode))


def packed(
    sources: Sequence[tuple[Path, str]], copied: Copied, moved: Moved = lambda _: None
) -> Iterator[bytes]:
    """A tar of each source, with all that is in it, under the name that is given; links stay links.

    What is neither file nor folder nor link, and links that lead out of their source, are `skipped`. Raises `OSError`.
    """
    for source, name in sources:
        for path, found in _walk(source):
            below = path.relative_to(source)
            entry = tarfile.TarInfo(str(PurePosixPath(name, *below.parts)))
            entry.mode, entry.mtime = stat.S_IMODE(found.st_mode) & 0o777, found.st_mtime
            if stat.S_ISLNK(found.st_mode):
                entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
                if _leads_out(PurePosixPath(entry.name), entry.linkname):
                    copied.skipped.append(f"{path} leads out of {source}")
                    continue
            elif stat.S_ISDIR(found.st_mode):
                entry.type = tarfile.DIRTYPE
            elif stat.S_ISREG(found.st_mode):
                entry.size = found.st_size
            else:
                copied.skipped.append(f"{path} is no file")
                continue
            header = entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            yield from _content(path, header, entry.size, moved) if entry.isreg() else (header,)
            if entry.isreg():
                copied.files, copied.bytes = copied.files + 1, copied.bytes + entry.size
    yield END


def unpacked(pieces: Iterable[bytes], folder: Path, name: str, moved: Moved = lambda _: None) -> Copied:
    """Unpack what a container sent, under `name` in `folder`: nothing of it lands elsewhere, nor behind a link.

    Raises `Conflict` for what stands in the way or is not to be trusted, `LeasingError` if it breaks off, `OSError`.
    """
    copied = Copied()
    source = cast("IO[bytes]", _Inflow(iter(pieces)))
    try:
        with tarfile.open(fileobj=source, mode="r|", bufsize=CHUNK) as tar:
            for entry in tar:
                tar.members.clear()  # type: ignore[attr-defined]  # or it would remember each
                parts = PurePosixPath(entry.name.lstrip("/")).parts
                if ".." in parts:
                    raise Conflict(f"The container sent a file that leads elsewhere: {entry.name[:200]!r}.")
                _unpack(tar, entry, folder, (name, *parts[1:]), copied, moved)
    except tarfile.TarError as error:
        raise LeasingError(f"The copy broke off: {error}.", hint="Try again; what came is there.") from error
    return copied


class _Inflow:
    """A file to read from, out of pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def read(self, size: int) -> bytes:
        while len(self._held) < size and (piece := next(self._pieces, None)) is not None:
            self._held += piece
        taken, self._held = self._held[:size], self._held[size:]
        return taken


def _walk(source: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """It and all that is in it, folders before their content. Links are not followed."""
    found = source.lstat()
    yield source, found
    if stat.S_ISDIR(found.st_mode):
        for one in sorted(source.iterdir()):
            yield from _walk(one)


def _leads_out(name: PurePosixPath, target: str) -> bool:
    depth = len(name.parts) - 1
    for part in () if target.startswith("/") else PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def _content(path: Path, header: bytes, size: int, moved: Moved) -> Iterator[bytes]:
    """As long as the header says, whatever becomes of the file meanwhile."""
    with path.open("rb") as file:
        yield header
        left = size
        while left:
            piece = file.read(min(CHUNK, left)) or bytes(min(CHUNK, left))
            left -= len(piece)
            yield piece
            moved(len(piece))
    if rest := size % tarfile.BLOCKSIZE:
        yield bytes(tarfile.BLOCKSIZE - rest)


def _unpack(
    tar: tarfile.TarFile,
    entry: tarfile.TarInfo,
    folder: Path,
    parts: Sequence[str],
    copied: Copied,
    moved: Moved,
) -> None:
    target = folder
    for part in parts[:-1]:
        target /= part
        if target.is_symlink():
            raise Conflict(
                f"{target} is a link; nothing is written through it.", hint="Copy to another place."
            )
    target.mkdir(parents=True, exist_ok=True)
    target /= parts[-1]
    if entry.isdir():
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise Conflict(f"{target} is in the way of a folder.", hint="Copy to another place.")
        target.mkdir(exist_ok=True)
        target.chmod(entry.mode & 0o777 | 0o700)
        return
    if target.is_dir() and not target.is_symlink():
        raise Conflict(f"{target} is a folder, in the way of a file.", hint="Copy to another place.")
    if entry.isreg():
        target.unlink(missing_ok=True)  # never into what a link or another name leads to
        held = tar.extractfile(entry)
        assert held is not None, "a regular file has content"
        with target.open("xb") as file:
            while piece := held.read(CHUNK):
                file.write(piece)
                moved(len(piece))
        target.chmod(entry.mode & 0o777 | 0o600)
        os.utime(target, (entry.mtime, entry.mtime))
        copied.files, copied.bytes = copied.files + 1, copied.bytes + entry.size
    elif entry.issym():
        target.unlink(missing_ok=True)
        target.symlink_to(entry.linkname)
    elif entry.islnk():
        _same(folder, entry, parts, target, copied)
    else:
        copied.skipped.append(f"{entry.name} is no file")


def _same(folder: Path, entry: tarfile.TarInfo, parts: Sequence[str], target: Path, copied: Copied) -> None:
    """Another name for a file that came before."""
    other = folder.joinpath(parts[0], *PurePosixPath(entry.linkname.lstrip("/")).parts[1:])
    with suppress(OSError):
        if ".." not in other.parts and not other.is_symlink() and other.is_file():
            target.unlink(missing_ok=True)
            target.hardlink_to(other)
            return
    copied.skipped.append(f"{entry.name} is another name for {entry.linkname}")
