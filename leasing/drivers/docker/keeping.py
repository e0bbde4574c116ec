"""Keeping a stopped container's files: as an image, in one layer again now and then, and on another engine."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import docker
from docker.errors import NotFound
from docker.utils import parse_repository_tag

from leasing.drivers.docker import convert
from leasing.drivers.docker.connection import Connection
from leasing.drivers.docker.errors import translated
from leasing.drivers.docker.images import inspect
from leasing.drivers.protocol import LABEL_COMMITS, LABEL_INSTALLATION, LABEL_ROLE, Image
from leasing.errors import ImageNotFound

COPY_SECONDS = 3600


class Keeping:
    """The part of the driver that keeps files."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def commit(self, container_id: str, *, tag: str, labels: Mapping[str, str]) -> Image:
        # a client of its own: the engine copies every file that the container has written before it answers
        with self._connection.fresh(COPY_SECONDS) as client:
            if (found := _find(client, tag)) is not None:
                return found
            facts, image = _facts(client, container_id)
            count = int((image.get("Labels") or {}).get(LABEL_COMMITS) or 0) + 1
            config = _config(image, facts["Config"], {**labels, LABEL_COMMITS: str(count)})
            return _commit(client, container_id, tag, config)

    def flatten(self, container_id: str, *, tag: str, labels: Mapping[str, str]) -> Image:
        # A root file system that is imported has none of its image's settings: a commit of a container made from it has
        # them all, whatever they are. What a cut-off one leaves has the labels by which it is found and removed.
        with self._connection.fresh(COPY_SECONDS) as client:
            facts, image = _facts(client, container_id)
            config = _config(image, facts["Config"], {**labels, LABEL_COMMITS: "0"})
            own = {key: labels[key] for key in (LABEL_INSTALLATION, LABEL_ROLE) if key in labels}
            changes = [f"LABEL {key}={json.dumps(value)}" for key, value in own.items()]
            answer = client.import_image_from_stream(client.export(container_id), changes=changes)
            imported = str(json.loads(answer.strip().splitlines()[-1])["status"])
            name = f"{facts['Name'].lstrip('/')}-flat"
            _remove(client, name)
            client.create_container(
                imported, command=facts["Config"].get("Cmd") or ["/"], name=name, labels=own
            )
            try:
                return _commit(client, name, tag, config)
            finally:
                _remove(client, name)

    def save_image(self, tag: str) -> Iterator[bytes]:
        with self._connection.fresh(COPY_SECONDS) as client:
            try:
                yield from client.get_image(tag)
            except NotFound as error:
                raise ImageNotFound(f"There is no image {tag} on the engine.") from error

    def load_image(self, archive: Iterator[bytes], *, tag: str) -> Image:
        with self._connection.fresh(COPY_SECONDS) as client:
            for line in client.load_image(archive):  # type: ignore[no-untyped-call]  # the stubs leave it out
                if "error" in line:
                    raise translated(str(line["error"]))
            return convert.image(inspect(client, tag))

    def written_bytes(self, container_id: str) -> int:
        with self._connection.fresh(COPY_SECONDS) as client:
            facts = client.inspect_container(container_id)
            (found,) = client.containers(all=True, size=True, filters={"id": facts["Id"]})
            return int(found.get("SizeRw") or 0)


def _facts(client: docker.APIClient, container_id: str) -> tuple[Any, Mapping[str, Any]]:
    """What the engine says of the container, and its image's configuration. Raises `ContainerGone`."""
    facts = client.inspect_container(container_id)
    return facts, inspect(client, facts["Image"])["Config"]


def _commit(client: docker.APIClient, container_id: str, tag: str, config: Mapping[str, Any]) -> Image:
    repository, version = parse_repository_tag(tag)
    client.commit(container_id, repository=repository, tag=version, conf=dict(config))
    return convert.image(inspect(client, tag))


def _config(
    image: Mapping[str, Any], container: Mapping[str, Any], labels: Mapping[str, str]
) -> dict[str, Any]:
    """The image's own configuration, for a commit of the container. What the container was given beside that, the
    engine would add from it, unless it is named here: so variables and labels that are its own are emptied."""
    environment = list(image.get("Env") or ())
    known = {entry.partition("=")[0] for entry in environment}
    given = [
        name
        for name in (entry.partition("=")[0] for entry in container.get("Env") or ())
        if name not in known
    ]
    own = dict.fromkeys(container.get("Labels") or (), "")
    return {
        **image,
        "Env": [*environment, *(f"{name}=" for name in given)],
        "Labels": {**own, **(image.get("Labels") or {}), **labels},
    }


def _find(client: docker.APIClient, tag: str) -> Image | None:
    with contextlib.suppress(NotFound):
        return convert.image(inspect(client, tag))
    return None


def _remove(client: docker.APIClient, name: str) -> None:
    with contextlib.suppress(NotFound):
        client.remove_container(name, v=True, force=True)
