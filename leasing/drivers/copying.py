"""The driver contract's files: looking into a container, copying out of it and into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from leasing.drivers.streaming import LogStream

MOST_ENTRIES = 5000
"""Of one folder, so many are listed."""
FileKind = Literal["file", "folder", "link", "other"]


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file as its container's user sees it. `name` has no folder. `folder`: whether it is one, or leads to one."""

    name: str
    kind: FileKind
    folder: bool
    size_bytes: int
    modified_at: datetime
    mode: int


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A file, and, if it is a folder, what is in it: by name, up to `MOST_ENTRIES`."""

    itself: FileEntry
    entries: Sequence[FileEntry] = ()
    more: bool = False
    """There is more than is listed."""


class Files(Protocol):
    """Paths are absolute, in the container. Each raises `ContainerGone`."""

    def list_files(self, container_id: str, path: str) -> Listing:
        """By the container's user. Raises `NotFound`, `NotAllowed`; `DriverError` where the image has no shell."""
        ...

    def copy_out(self, container_id: str, path: str) -> LogStream:
        """A file, or a folder with all that is in it, as a tar below its own name. Raises `NotFound`."""
        ...

    def copy_in(self, container_id: str, path: str, archive: Iterator[bytes]) -> None:
        """Unpack a tar in the folder `path`, owners as it says. What `archive` raises comes out as it is; what came
        before stays. Raises `NotFound` and `Conflict` if that is no folder, `NotAllowed` for one that is read-only,
        `DiskFull`."""
        ...
