"""Small archives, which is how files travel into containers and builds."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

UID = 1000


def one_file(path: str, content: bytes) -> bytes:
    """An archive for `/` with one file owned by the lease's user, and its folder."""
    target = PurePosixPath(path.lstrip("/"))
    with _archive() as (tar, data):
        _folder(tar, str(target.parent))
        entry = tarfile.TarInfo(str(target))
        entry.size, entry.mode, entry.uid, entry.gid = len(content), 0o644, UID, UID
        tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def folders(*paths: str) -> bytes:
    """An archive for `/` with empty folders owned by the lease's user."""
    with _archive() as (tar, data):
        for path in paths:
            _folder(tar, path.lstrip("/"))
    return data.getvalue()


def build_context(folder: Path, extra: Mapping[str, bytes]) -> bytes:
    """A build's context: the folder's files and the extra ones, the same bytes for the same content."""
    with _archive() as (tar, data):
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            _file(tar, path.relative_to(folder).as_posix(), path.read_bytes(), mode)
        for name, content in sorted(extra.items()):
            _file(tar, name, content)
    return data.getvalue()


@contextmanager
def _archive() -> Iterator[tuple[tarfile.TarFile, io.BytesIO]]:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        yield tar, data


def _folder(tar: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o755, UID, UID
    tar.addfile(entry)


def _file(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
