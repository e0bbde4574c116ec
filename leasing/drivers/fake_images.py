"""The engine in memory: its images, and the files that are kept as such."""

from __future__ import annotations

import base64
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from leasing.drivers.protocol import LABEL_COMMITS, Image, Progress, RegistryLogin
from leasing.errors import DriverError, ImageNotFound

if TYPE_CHECKING:
    from leasing.drivers.fake import Knobs, _Kept

DEEPEST = 125
"""Layers that an image may have, as with a real engine."""


class FakeImages:
    """The image half of the engine in memory."""

    knobs: Knobs
    _images: dict[str, Image]
    _files: dict[str, dict[str, bytes]]
    _containers: dict[str, _Kept]

    @abstractmethod
    def _up(self) -> AbstractContextManager[object]: ...

    @abstractmethod
    def _kept(self, container_id: str) -> _Kept: ...

    def find_image(self, reference: str) -> Image | None:
        with self._up():
            return self._image(reference)

    def _image(self, reference: str) -> Image | None:
        """By name or id, as everything finds images."""
        found = (image for name, image in self._images.items() if reference in (name, image.id))
        return next(found, None)

    def pull_image(self, reference: str, login: RegistryLogin | None, progress: Progress) -> Image:
        with self._up():
            wanted = self.knobs.registry.get(reference)
            if reference not in self.knobs.registry or (wanted is not None and wanted != login):
                raise ImageNotFound(f"There is no image {reference}, or it may not be read.")
        progress("pulling the image: 0 of 1 layers")
        if self.knobs.pull_waits_for is not None:
            self.knobs.pull_waits_for.wait()
        with self._up():
            progress("pulling the image: 1 of 1 layers")
            self._images[reference] = an_image(reference)
            return self._images[reference]

    def build_image(
        self,
        context: Path,
        *,
        tag: str,
        build_args: Mapping[str, str],
        labels: Mapping[str, str],
        extra_files: Mapping[str, bytes],
        progress: Progress,
    ) -> Image:
        with self._up():
            progress(f"building {tag}")
            self._images[tag] = an_image(tag)
            return self._images[tag]

    def import_image(self, tarball: Path, *, tag: str, changes: Sequence[str] = ()) -> Image:
        with self._up():
            self._images[tag] = an_image(tag)
            return self._images[tag]

    def commit(self, container_id: str, *, tag: str, labels: Mapping[str, str]) -> Image:
        with self._up():
            if tag in self._images:
                return self._images[tag]
            base = self._images[self._kept(container_id).spec.image]
            if base.layers >= DEEPEST:
                raise DriverError("The engine refused: max depth exceeded")
            return self._keep(container_id, tag, labels, base.layers + 1, base.commits + 1)

    def flatten(self, container_id: str, *, tag: str, labels: Mapping[str, str]) -> Image:
        with self._up():
            return self._keep(container_id, tag, labels, 1, 0)

    def save_image(self, tag: str) -> Iterator[bytes]:
        with self._up():
            if tag not in self._images:
                raise ImageNotFound(f"There is no image {tag} on the engine.")
            image, files = self._images[tag], self._files.get(tag, {})
        # what is written here is read below, by another engine in memory
        written = {path: base64.b64encode(content).decode() for path, content in files.items()}
        yield json.dumps({"labels": dict(image.labels), "layers": image.layers}).encode()
        yield json.dumps(written).encode()

    def load_image(self, archive: Iterator[bytes], *, tag: str) -> Image:
        facts, files = (json.loads(part) for part in archive)
        with self._up():
            if self.knobs.commit_error is not None:
                raise self.knobs.commit_error
            self._files[tag] = {path: base64.b64decode(content) for path, content in files.items()}
            self._images[tag] = replace(an_image(tag), **facts)
            return self._images[tag]

    def written_bytes(self, container_id: str) -> int:
        with self._up():
            return sum(len(content) for content in self._kept(container_id).files.values())

    def _keep(
        self, container_id: str, tag: str, labels: Mapping[str, str], layers: int, commits: int
    ) -> Image:
        if self.knobs.commit_error is not None:
            raise self.knobs.commit_error
        kept = self._kept(container_id)
        base = self._images[kept.spec.image]
        self._files[tag] = dict(kept.files)
        own = {**base.labels, **labels, LABEL_COMMITS: str(commits)}
        self._images[tag] = replace(an_image(tag), labels=own, runs=base.runs, layers=layers)
        return self._images[tag]

    def images(self) -> list[Image]:
        with self._up():
            return list(self._images.values())

    def remove_image(self, reference: str) -> bool:
        with self._up():
            used = {kept.spec.image for kept in self._containers.values()}
            for name, image in list(self._images.items()):
                if reference in (image.id, name):
                    if name in used:
                        return False
                    del self._images[name]
                    self._files.pop(name, None)
            return True


def an_image(name: str) -> Image:
    """One layer of nothing."""
    return Image(
        id=f"sha256:{name}", tags=(name,), size_bytes=1000, created_at=datetime.now(UTC), labels={}, runs=True,
        layers=1,
    )  # fmt: skip
