"""Workspaces' volumes: making them, with a hard quota where the machine allows one, how full they are, reading them."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import Mount as DockerMount

from leasing.drivers.docker import loops
from leasing.drivers.docker.archives import Archive
from leasing.drivers.docker.connection import Connection
from leasing.drivers.docker.images import inspect
from leasing.drivers.docker.loops import LINKS, Loops
from leasing.drivers.protocol import BUILDER, LABEL_INSTALLATION, LABEL_ROLE
from leasing.errors import DriverError, EngineDown, FilesGone, VolumeGone

log = logging.getLogger(__name__)
GONE = "The volume {} with the workspace's files is not on its node any more."
GONE_HINT = "Is its disk not mounted? Then mount it and ask again. To begin anew: lease workspace rm NAME."
EMPTY = "leasing-helper:empty"
"""An image without files: of a helper container that is never started."""
PROBE = "leasing-quota-probe"
TARGET = "/workspace"
MEASURE_SECONDS = 20
"""For one volume, or for all of an engine that is elsewhere: what takes longer is not known."""

BY_ENGINE = "engine"
"""The engine's own: its data lies on a file system with project quotas (XFS, or ext4 with them)."""
BY_LOOP = "loop"
"""A file system in a file, on the engine's machine."""


class Volumes:
    """The part of the driver that keeps what outlives containers."""

    _quota: tuple[str | None, Loops | None] | None = None

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def disk_quota(self, client: docker.APIClient, info: Mapping[str, Any]) -> str | None:
        """By what means this engine's volumes can be held to a size; found out once, by trying."""
        if self._quota is None:
            root = loops.possible(info, self._connection.address)
            made = Loops(root) if root is not None else None
            own = _has_project_quota(client)
            self._quota = (BY_ENGINE if own else BY_LOOP if made else None), made
        return self._quota[0]

    def ensure_volume(
        self, name: str, *, installation: str, size_bytes: int | None, anew: bool = True
    ) -> bool:
        with self._connection.call() as client:
            means, local = self._means(client)
            labels = {LABEL_INSTALLATION: installation}
            found = _find(client, name)
            if found is None and not anew and (local is None or name not in local.names(name)):
                raise VolumeGone(GONE.format(name), hint=GONE_HINT)
            if found is None and (size_bytes is None or means is None):
                client.create_volume(name, labels=labels)
                return False
            if found is None and means == BY_ENGINE:
                client.create_volume(name, driver_opts={"size": str(size_bytes)}, labels=labels)
                return True
            if found is None and local is not None:
                link = local.make(name, size_bytes or 0)
                options = {"type": "ext4", "device": str(link), "o": "discard,nosuid,nodev"}
                client.create_volume(name, driver_opts=options, labels=labels)
                return True
            options = (found or {}).get("Options") or {}
            if local is not None and _is_loop(options):
                local.set_up(name, size_bytes or 0)
            return "size" in options or _is_loop(options)

    def volumes(self, installation: str) -> list[str]:
        with self._connection.call() as client:
            found = client.volumes(filters={"label": f"{LABEL_INSTALLATION}={installation}"})
            _, local = self._means(client)
        begun = local.names(f"leasing-{installation}-") if local is not None else ()
        return sorted({facts["Name"] for facts in found["Volumes"] or ()} | set(begun))

    def remove_volume(self, name: str) -> None:
        with self._connection.call() as client:
            _, local = self._means(client)
            with contextlib.suppress(NotFound):
                client.remove_volume(name)
        if local is not None:
            local.remove(name)

    def volume_sizes(self, names: Sequence[str]) -> dict[str, int]:
        with self._connection.call() as client:
            _, local = self._means(client)
        if not self._connection.address.startswith("unix://") or os.geteuid() != 0:
            return self._as_engine_says(names)
        sizes = {}
        for name in names:
            try:
                size = self._size(name, local)
            except EngineDown:
                raise
            except (DriverError, OSError) as error:  # of a damaged one; the others are known all the same
                log.warning("not measured volume=%s error=%s", name, error)
                continue
            if size is not None:
                sizes[name] = size
        return sizes

    def archive(self, volume: str, *, name: str, installation: str) -> Archive:
        with self._connection.call() as client:
            _, local = self._means(client)
            found = _find(client, volume)
            if found is None:
                raise FilesGone("There is no such volume on its node.")
            if local is not None and _is_loop(found.get("Options") or {}):
                local.set_up(volume, 0)
            _ensure_empty_image(client)
            with contextlib.suppress(NotFound):
                client.remove_container(name, v=True, force=True)
            mount = DockerMount(TARGET, volume, type="volume", read_only=True, no_copy=True)
            client.create_container(
                EMPTY,
                command=["none"],
                name=name,
                labels={LABEL_INSTALLATION: installation, LABEL_ROLE: BUILDER},
                host_config=client.create_host_config(mounts=[mount], network_mode="none"),
            )
        return Helped(self._connection, name, TARGET)

    def _means(self, client: docker.APIClient) -> tuple[str | None, Loops | None]:
        if self._quota is None:
            self.disk_quota(client, client.info())
        assert self._quota is not None
        return self._quota

    def _size(self, name: str, local: Loops | None) -> int | None:
        with self._connection.call() as client:
            found = _find(client, name)
        size = local.used_bytes(name) if local is not None else None
        if size is None and found is not None:
            size = _measured(Path(found["Mountpoint"]))
        return size

    def _as_engine_says(self, names: Sequence[str]) -> dict[str, int]:
        """It walks through all that it has, so this is not asked often."""
        with self._connection.fresh(MEASURE_SECONDS) as client:
            listed = client.df()["Volumes"] or ()
        sizes = {one["Name"]: (one.get("UsageData") or {}).get("Size", -1) for one in listed}
        return {name: sizes[name] for name in names if sizes.get(name, -1) >= 0}


class Helped(Archive):
    """Of a volume, by way of a helper container that goes at the end."""

    def __init__(self, connection: Connection, container: str, path: str) -> None:
        self._connection, self._container = connection, container
        super().__init__(connection, container, path)

    def close(self) -> None:
        """End the reading first, for the engine does not let go of what is read."""
        super().close()
        # what resists is nobody's by then, and reconciled later
        with contextlib.suppress(DriverError), self._connection.call() as client:
            client.remove_container(self._container, v=False, force=True)


def _has_project_quota(client: docker.APIClient) -> bool:
    """An engine whose disk has none refuses to make such a volume."""
    try:
        client.create_volume(PROBE, driver_opts={"size": str(16 * 1024**2)})
        found = client.inspect_volume(PROBE)
        client.remove_volume(PROBE, force=True)
    except APIError:
        return False
    return "size" in (found.get("Options") or {})


def _find(client: docker.APIClient, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.inspect_volume(name)
    except NotFound:
        return None
    return found


def _is_loop(options: Mapping[str, str]) -> bool:
    return Path(options.get("device", "")).parent == LINKS


def _measured(folder: Path) -> int | None:
    try:
        done = subprocess.run(
            ["du", "--summarize", "--one-file-system", "--block-size=1", "--", str(folder)],
            check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=MEASURE_SECONDS,
        )  # fmt: skip
        # files that go while it looks make it fail at the end, with a sum all the same
        return int(done.stdout.split()[0])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return None


def _ensure_empty_image(client: docker.APIClient) -> None:
    try:
        inspect(client, EMPTY)
    except ImageNotFound:
        empty = io.BytesIO()
        tarfile.open(fileobj=empty, mode="w").close()
        repository, _, tag = EMPTY.partition(":")
        client.import_image_from_data(empty.getvalue(), repository=repository, tag=tag)
