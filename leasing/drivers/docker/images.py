"""Finding, pulling, building and removing images, with progress for whoever waits."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound
from docker.utils import parse_repository_tag

from leasing.drivers.docker import convert, files
from leasing.drivers.docker.connection import Connection
from leasing.drivers.docker.errors import translated
from leasing.drivers.protocol import Image, Progress, RegistryLogin
from leasing.errors import DriverError
from leasing.units import format_size


class Images:
    """The image half of the driver."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find_image(self, reference: str) -> Image | None:
        with self._connection.call() as client:
            try:
                return convert.image(inspect(client, reference))
            except ImageNotFound:
                return None
            except APIError as error:
                if error.status_code in (400, 404):
                    return None
                raise

    def pull_image(self, reference: str, login: RegistryLogin | None, progress: Progress) -> Image:
        credentials = {"username": login.username, "password": login.secret} if login else None
        repository, tag = parse_repository_tag(reference)
        with self._connection.call(pulling=True) as client:
            _follow(
                client.pull(
                    repository, tag=tag or "latest", stream=True, decode=True, auth_config=credentials
                ),
                _Pull(progress),
            )
            return convert.image(inspect(client, reference))

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
        with self._connection.call() as client:
            _follow(
                client.build(
                    fileobj=io.BytesIO(files.build_context(context, extra_files)),
                    custom_context=True,
                    tag=tag,
                    buildargs=dict(build_args),
                    labels=dict(labels),
                    rm=True,
                    forcerm=True,
                    decode=True,
                ),
                _Build(progress),
            )
            return convert.image(inspect(client, tag))

    def import_image(self, tarball: Path, *, tag: str, changes: Sequence[str] = ()) -> Image:
        repository, version = parse_repository_tag(tag)
        with self._connection.call() as client:
            client.import_image(str(tarball), repository=repository, tag=version, changes=list(changes))
            return convert.image(inspect(client, tag))

    def images(self) -> list[Image]:
        with self._connection.call() as client:
            return [convert.image(facts) for facts in client.images()]

    def remove_image(self, reference: str) -> bool:
        with self._connection.call() as client:
            try:
                client.remove_image(reference)
            except APIError as error:
                if error.status_code == 404:
                    return True
                if error.status_code == 409:
                    return False
                raise
            return True


def inspect(client: docker.APIClient, reference: str) -> Any:
    """What the engine says of an image. Raises docker's `ImageNotFound`."""
    return client.inspect_image(reference)  # type: ignore[no-untyped-call]  # the stubs leave it out


def _follow(lines: Iterable[dict[str, Any]], sink: _Pull | _Build) -> None:
    """Read a stream of progress to its end, so that its connection is free again; then an error in it is raised."""
    failed: DriverError | None = None
    for line in lines:
        if "error" in line:
            failed = sink.failed(str(line["error"]))
        else:
            sink.take(line)
    if failed is not None:
        raise failed


class _Pull:
    """Layers' progress summed up: "pulling 3 of 7 layers, 41M of 120M"."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._layers: dict[str, tuple[int, int]] = {}
        self._done: set[str] = set()

    def take(self, line: dict[str, Any]) -> None:
        layer, status, detail = line.get("id"), line.get("status", ""), line.get("progressDetail") or {}
        if layer is None or status.startswith(("Pulling from", "Digest", "Status")):
            return
        if status in ("Pull complete", "Already exists"):
            self._done.add(layer)
        if status == "Downloading" and "total" in detail:
            self._layers[layer] = (detail.get("current", 0), detail["total"])
        total = sum(size for _, size in self._layers.values())
        got = sum(size if layer in self._done else have for layer, (have, size) in self._layers.items())
        known = max(len(self._layers | dict.fromkeys(self._done)), 1)
        amount = f", {format_size(got)} of {format_size(total)}" if total else ""
        self._progress(f"pulling the image: {len(self._done)} of {known} layers{amount}")

    def failed(self, said: str) -> DriverError:
        return translated(said, pulling=True)


class _Build:
    """The step that is being built, and the last lines it said, which a failure shows."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._step = ""
        self._said: list[str] = []

    def take(self, line: dict[str, Any]) -> None:
        text = str(line.get("stream", "")).strip()
        if not text:
            return
        if text.startswith("Step "):
            self._step = text.splitlines()[0]
            self._progress(f"building the image: {self._step[:100]}")
        self._said = [*self._said, text][-10:]

    def failed(self, said: str) -> DriverError:
        return DriverError(
            f"The image cannot be built; this step failed: {self._step or 'the first'}: {said.strip()}",
            hint="\n".join(self._said)[-1500:] or None,
        )
