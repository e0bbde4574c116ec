"""Volumes of the engine in memory."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from leasing.drivers.protocol import BUILDER, LABEL_INSTALLATION, LABEL_ROLE, Container
from leasing.errors import DriverError, FilesGone, VolumeGone


class Archive:
    """What is in a volume, piece by piece."""

    def __init__(self, pieces: Iterable[bytes], helpers: dict[str, Container], name: str) -> None:
        self._pieces = iter(pieces)
        self._helpers = helpers
        self._name = name
        self._closed = False

    def __iter__(self) -> Archive:
        return self

    def __next__(self) -> bytes:
        if self._closed:
            raise StopIteration
        return next(self._pieces)

    def close(self) -> None:
        self._closed = True
        self._helpers.pop(self._name, None)


class FakeVolumes(ABC):
    """The part of the engine in memory that keeps what outlives containers."""

    def __init__(self) -> None:
        self.disk_quota: str | None = None
        self.sizes: dict[str, int] = {}
        """What is in volumes, in bytes."""
        self.archived: Iterable[bytes] = ()
        """What comes of a volume that is read."""
        self.helpers: dict[str, Container] = {}
        self._volumes: dict[str, str] = {}
        self._held_to_size: dict[str, int] = {}

    @abstractmethod
    def _up(self) -> AbstractContextManager[object]: ...

    @abstractmethod
    def _mounted(self) -> set[str]:
        """Volumes that containers have."""

    def ensure_volume(
        self, name: str, *, installation: str, size_bytes: int | None, anew: bool = True
    ) -> bool:
        with self._up():
            if not anew and name not in self._volumes:
                raise VolumeGone(f"The volume {name} with the workspace's files is not on its node any more.")
            new = name not in self._volumes and self.disk_quota is not None
            if size_bytes is not None and (new or name in self._held_to_size):
                self._held_to_size[name] = max(size_bytes, self._held_to_size.get(name, 0))
            self._volumes.setdefault(name, installation)
            return name in self._held_to_size

    def volumes(self, installation: str) -> list[str]:
        with self._up():
            return [name for name, owner in self._volumes.items() if owner == installation]

    def remove_volume(self, name: str) -> None:
        with self._up():
            if name in self._mounted():
                raise DriverError(f"The volume {name} is in use.")
            self._volumes.pop(name, None)
            self._held_to_size.pop(name, None)

    def volume_sizes(self, names: Sequence[str]) -> Mapping[str, int]:
        with self._up():
            return {name: self.sizes[name] for name in names if name in self.sizes}

    def held_to_size(self, name: str) -> int | None:
        """What the volume cannot grow past."""
        return self._held_to_size.get(name)

    def archive(self, volume: str, *, name: str, installation: str) -> Archive:
        with self._up():
            if volume not in self._volumes:
                raise FilesGone("There is no such volume on its node.")
            self.helpers[name] = Container(
                id=secrets.token_hex(32),
                name=name,
                state="created",
                labels={LABEL_INSTALLATION: installation, LABEL_ROLE: BUILDER},
                image="",
                created_at=datetime.now(UTC),
            )
            return Archive(self.archived, self.helpers, name)
