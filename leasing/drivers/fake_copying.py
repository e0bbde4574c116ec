"""Files in containers of the engine in memory."""

from __future__ import annotations

import io
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import PurePosixPath

from leasing.drivers.copying import FileEntry, Listing
from leasing.errors import Conflict, NotFound

CHUNK = 10_000


class CopiedOut:
    """A tar, piece by piece."""

    def __init__(self, tar: bytes) -> None:
        self._tar = tar
        self._closed = False

    def __iter__(self) -> CopiedOut:
        return self

    def __next__(self) -> bytes:
        if self._closed or not self._tar:
            raise StopIteration
        piece, self._tar = self._tar[:CHUNK], self._tar[CHUNK:]
        return piece

    def close(self) -> None:
        self._closed = True


class FakeCopying(ABC):
    """The part of the engine in memory that looks at files: by their whole paths, folders by what is in them."""

    @abstractmethod
    def _up(self) -> AbstractContextManager[object]: ...

    @abstractmethod
    def _files_of(self, container_id: str) -> dict[str, bytes]:
        """Raises `ContainerGone`."""

    @abstractmethod
    def _made_at(self, container_id: str) -> datetime:
        """When all its files are from."""

    def list_files(self, container_id: str, path: str) -> Listing:
        with self._up():
            files = self._files_of(container_id)
            at = self._made_at(container_id)
            if path in files:
                return Listing(itself=_entry(path, len(files[path]), at))
            below = _below(files, path)
            children: dict[str, int | None] = {}
            for one, content in below.items():
                name, slash, _ = one.partition("/")
                children[name] = None if slash else len(content)
            entries = [_entry(name, size, at) for name, size in children.items() if name]
            entries.sort(key=lambda one: (not one.folder, one.name.lower(), one.name))
            return Listing(itself=_entry(path, None, at), entries=tuple(entries))

    def copy_out(self, container_id: str, path: str) -> CopiedOut:
        with self._up():
            files = self._files_of(container_id)
            name, data = PurePosixPath(path).name or "/", io.BytesIO()
            with tarfile.open(fileobj=data, mode="w") as tar:
                if path in files:
                    _add(tar, name, files[path])
                else:
                    below = _below(files, path)
                    folder = tarfile.TarInfo(name)
                    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(folder)
                    for one, content in below.items():
                        if one:
                            _add(tar, f"{name}/{one}", content)
            return CopiedOut(data.getvalue())

    def copy_in(self, container_id: str, path: str, archive: Iterator[bytes]) -> None:
        whole = io.BytesIO(b"".join(archive))
        with self._up(), tarfile.open(fileobj=whole, mode="r:") as tar:
            files = self._files_of(container_id)
            if path in files:
                raise Conflict(f"{path} is no folder.")
            _below(files, path)
            for entry in tar:
                held = tar.extractfile(entry) if entry.isreg() else None
                if held is not None:
                    files[str(PurePosixPath(path, entry.name))] = held.read()


def _below(files: dict[str, bytes], path: str) -> dict[str, bytes]:
    """What is in the folder, by path from there. The workspace is always one. Raises `NotFound`."""
    start = f"{path.rstrip('/')}/"
    found = {one.removeprefix(start): content for one, content in files.items() if one.startswith(start)}
    if not found and path not in ("/", "/workspace"):
        raise NotFound(f"There is no {path} in the container.", hint="A folder before it says what there is.")
    return found


def _entry(path: str, size: int | None, at: datetime) -> FileEntry:
    """A folder has no size."""
    return FileEntry(
        name=PurePosixPath(path).name or "/", kind="folder" if size is None else "file", folder=size is None,
        size_bytes=size or 0, modified_at=at, mode=0o755 if size is None else 0o644,
    )  # fmt: skip


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))
