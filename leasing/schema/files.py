"""Files of a lease on the wire."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from leasing.schema.base import Wire


class FileOut(Wire):
    """One file, as the lease's user sees it."""

    name: str
    kind: str
    """file, folder, link or other"""
    folder: bool
    """Whether it is a folder, or a link that leads to one."""
    size_bytes: int
    modified_at: datetime
    mode: str
    """As in `chmod`: 644."""


class FolderOut(Wire):
    """A path, and what is there."""

    path: str
    """The whole of it."""
    itself: FileOut
    items: list[FileOut] = Field(default_factory=list)
    """Of a folder: folders first, by name."""
    more: bool = False
    """There is more than is listed."""


class UploadOut(Wire):
    """What was put into a lease."""

    path: str
    bytes: int
    """Of the archive as it came."""
