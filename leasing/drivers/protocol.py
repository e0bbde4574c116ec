"""The driver contract: one engine that runs containers.

Two protocols, because two kinds of callers hold them: `Lifecycle` for whoever decides and acts (scheduler, images), and
`Streams` for whoever only moves bytes (api). Nothing above a driver may assume that the engine is on this machine.

Verbs are idempotent: names are deterministic, creating what exists returns it, stopping or removing what is gone is
done. Wherever a `container_id` is taken, the container's name will do. Every verb raises `EngineDown` when nothing
answers, and `DriverError` when the engine refuses. A driver is thread-safe, and calls from many threads do not queue
behind each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from leasing.drivers.copying import Files
from leasing.drivers.streaming import ExecStream, LogStream

Progress = Callable[[str], None]
"""Receives one short line for a person: "pulling layer 3 of 7, 41 MB of 120 MB"."""

LABEL_INSTALLATION = "leasing.installation"
LABEL_ROLE = "leasing.role"
LABEL_LEASE = "leasing.lease"
LABEL_NAME = "leasing.name"
LABEL_OWNER = "leasing.owner"
BUILDER = "builder"
"""Role of a helper container, which never runs."""
LABEL_COMMITS = "leasing.commits"
"""On images that hold a suspended lease's files: from how many suspensions, in a layer each."""
KEPT = "kept"
"""Role of an image that holds a suspended lease's files."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What an engine says of itself.

    `epoch` changes whenever the engine started anew *and took its containers down with it*: a death under another
    epoch than the one a container was started in is a restart, not an end. None where the engine cannot tell.
    """

    version: str
    epoch: str | None
    cpus: int
    memory_bytes: int
    disk_free_bytes: int | None
    gpu_runtime: bool
    cgroup_version: int
    rootless: bool = False
    disk_quota: str | None = None
    """By what means volumes can be held to a size: `engine`, `loop`; None: they are only watched."""
    sandboxes: bool = False
    """Whether starts may join pre-made networks here (`Lifecycle.sandbox`) and still be called by their own names."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A named volume mounted into the container, owned by the container's user from its creation."""

    volume: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """Everything an engine needs to create one container; built by `drivers.spec`, pure.

    `cpus` is in cores, sizes are bytes. `device_uuids` are NVML UUIDs; empty means no GPU is visible at all.
    """

    name: str
    image: str
    command: Sequence[str] | None
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    network: str
    bridge: str
    hostname: str
    user: str
    home: str
    working_dir: str | None
    cpus: float
    memory_bytes: int
    shm_bytes: int
    pids_limit: int
    device_uuids: Sequence[str] = ()
    mounts: Sequence[Mount] = ()
    prepared: bool = True
    """Whether the image has the home and the workspace folder, owned by the user; else the driver makes them."""
    follows: str | None = None
    """A stopped container that this one goes on from: volumes without a name, which its image declares, go over."""
    sandbox: str | None = None
    """The sandbox whose network it joins, by name; `network` is then none of its own."""
    tools: str | None = None
    """The image of programs for coming in, which the container sees read-only below `drivers.spec.TOOLS`; it is made
    without them where the engine does not have that image."""
    waits: bool = False
    """Started for nobody yet: it does nothing until `Lifecycle.hand_over` says what to run."""


@dataclass(frozen=True, kw_only=True)
class HandOver:
    """What a container that waits becomes. `environment` is for its command, on top of what it was created with."""

    name: str
    hostname: str
    command: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container as the engine sees it now.

    `state` is the engine's own word (created, running, paused, restarting, removing, exited, dead). `address` is
    where the endpoint is reached from this engine's machine, None unless running.
    """

    id: str
    name: str
    state: str
    labels: Mapping[str, str]
    image: str
    created_at: datetime
    address: str | None = None
    pid: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    error: str | None = None
    volumes: Sequence[str] = ()
    """Names of those that are mounted, but for the platform's tools; () in a listing."""

    @property
    def running(self) -> bool:
        return self.state in ("running", "paused", "restarting")


@dataclass(frozen=True, kw_only=True)
class Created:
    """A container that is there, not necessarily new, and the engine's epoch (see `Engine`) in which that was so."""

    id: str
    epoch: str | None


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a command inside a container went. `exit_code` is None if it was cut off for taking too long; 126 and 127
    mean that it could not be executed at all. `output` is both streams, its end if there was much."""

    exit_code: int | None
    output: str


@dataclass(frozen=True, kw_only=True)
class ContainerEvent:
    """A hint that a container changed. `action` is one of start, die, oom, destroy."""

    container_id: str
    action: str
    at: datetime
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image present on the engine. `id` is its digest; `tags` may be empty for a dangling one."""

    id: str
    tags: Sequence[str]
    size_bytes: int
    created_at: datetime
    labels: Mapping[str, str]
    runs: bool = True
    """Whether it has a command of its own."""
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    """What a container of it runs is the entrypoint with that, or with the command that was asked for instead."""
    layers: int = 0
    """Each of which every look at a file may have to search; an engine allows some 125. 0 in a listing."""

    @property
    def commits(self) -> int:
        """So many suspensions' files lie upon each other in it."""
        return int(self.labels.get(LABEL_COMMITS) or 0)

    def kept_by(self, installation: str) -> bool:
        """Whether it holds the files of one of that installation's leases."""
        return self.labels.get(LABEL_ROLE) == KEPT and self.labels.get(LABEL_INSTALLATION) == installation


@dataclass(frozen=True, kw_only=True)
class RegistryLogin:
    """Credentials for one private registry. Its repr shows no secret."""

    host: str
    username: str
    secret: str = field(repr=False)


class Lifecycle(Protocol):
    """What the scheduler does to an engine."""

    def probe(self) -> Engine:
        """What the engine is, over a connection of its own: the answer proves that it takes connections now."""
        ...

    def epoch(self) -> str | None:
        """The present epoch (see `Engine`), for the price of one look."""
        ...

    def find_image(self, reference: str) -> Image | None:
        """The image if it is present on the engine; never asks a registry."""
        ...

    def pull_image(self, reference: str, login: RegistryLogin | None, progress: Progress) -> Image:
        """Raises `ImageNotFound` when no registry has it or it may not be read."""
        ...

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
        """Build the folder `context`; `extra_files` (name → content) join it without lying on disk."""
        ...

    def import_image(self, tarball: Path, *, tag: str, changes: Sequence[str] = ()) -> Image:
        """Make an image out of a root file system (tar)."""
        ...

    def commit(self, container_id: str, *, tag: str, labels: Mapping[str, str]) -> Image:
        """The container's files as an image of that tag; one that has the tag already is returned as it is.

        Command and environment are those of the image that the container was made from: no value that only the
        container was given is kept. Volumes are no part of it. Raises `ContainerGone`, `DiskFull`.
        """
        ...

    def flatten(self, container_id: str, *, tag: str, labels: Mapping[str, str]) -> Image:
        """As `commit`, but all of its files in one layer, the image's own with them; the tag moves if there is one.

        It copies everything, and shares nothing with other images any more. Raises `ContainerGone`, `DiskFull`.
        """
        ...

    def save_image(self, tag: str) -> Iterator[bytes]:
        """The image with all of its layers, for another engine's `load_image`. Raises `ImageNotFound`."""
        ...

    def load_image(self, archive: Iterator[bytes], *, tag: str) -> Image:
        """What another engine's `save_image` gave, under the same tag."""
        ...

    def written_bytes(self, container_id: str) -> int:
        """What its own files take on disk, besides its image; looks at each. Raises `ContainerGone`."""
        ...

    def images(self) -> list[Image]: ...

    def remove_image(self, reference: str) -> bool:
        """By id or tag; False when something still uses it."""
        ...

    def create(self, spec: ContainerSpec) -> Created:
        """Network, volumes and container, each found or created; leaves nothing half-made behind when it raises."""
        ...

    def start(self, container_id: str) -> Container:
        """Start (no-op if running) and return it with its address; raises `ContainerGone`, `DriverError`."""
        ...

    def sandbox(self, name: str, bridge: str, labels: Mapping[str, str]) -> Container:
        """A network of that name held by a tiny container of that name, found or made, and running.

        One container at a time joins it (`ContainerSpec.sandbox`) and is alone in it, as in a network of its own.
        """
        ...

    def hand_over(self, container_id: str, becomes: HandOver) -> Container:
        """Let a container that waits run a command; idempotent: one that runs it already goes on undisturbed.

        If the engine stopped it meanwhile it is started first. Raises `ContainerGone`, `DriverError`.
        """
        ...

    def write_file(self, container_id: str, path: str, content: bytes) -> None:
        """Write one small file, readable by the container's user, into a created or running container."""
        ...

    def run(self, container_id: str, command: Sequence[str], *, seconds: float) -> Ran:
        """Run one command inside, as the container's user and without input, and wait for its end.

        After `seconds` it is killed, where the engine is on this machine; elsewhere only no longer waited for. Raises
        `ContainerGone`, `DriverError` if the container does not run.
        """
        ...

    def inspect(self, container_id: str) -> Container | None: ...

    def stop(self, container_id: str, *, grace_seconds: int) -> None: ...

    def remove(self, container_id: str, *, network: str | None) -> None:
        """Remove the container and the lease's network, never a workspace volume."""
        ...

    def containers(self, installation: str) -> list[Container]:
        """Every container of this installation, in any state, from a sparse listing (no address, no exit code)."""
        ...

    def networks(self, installation: str) -> list[str]:
        """Names of this installation's networks."""
        ...

    def remove_network(self, name: str) -> None: ...

    def ensure_volume(
        self, name: str, *, installation: str, size_bytes: int | None, anew: bool = True
    ) -> bool:
        """Find or make it, ready to be mounted; whether it cannot grow past its size.

        It grows to the size that is asked, where it can and while no container runs that has it, and never shrinks.
        One that has been in use is not to be made `anew`: then it raises `VolumeGone` if it is there no more.
        """
        ...

    def volumes(self, installation: str) -> list[str]:
        """Of this installation, those that were only begun with them."""
        ...

    def remove_volume(self, name: str) -> None:
        """With all that is in it; done if it is gone. Raises `DriverError` while a container has it."""
        ...

    def volume_sizes(self, names: Sequence[str]) -> Mapping[str, int]:
        """What is in each, in bytes; without those for which that cannot be said in a bounded time."""
        ...

    def events(self, installation: str, *, since: datetime) -> Iterator[ContainerEvent]:
        """Replays from `since`, then follows; ends by raising `EngineDown` when the engine goes, or on `close()`."""
        ...

    def tail(self, container_id: str, lines: int) -> str:
        """The last lines of its output, both streams, decoded leniently."""
        ...

    def close(self) -> None:
        """Let go of connections; unblocks `events`."""
        ...


class Streams(Files, Protocol):
    """What the api streams from an engine."""

    def logs(self, container_id: str, *, follow: bool, tail: int | None) -> LogStream: ...

    def exec(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        tty: bool,
        columns: int = 80,
        rows: int = 24,
        environment: Mapping[str, str] | None = None,
        aside: Callable[[bytes], None] | None = None,
    ) -> ExecStream:
        """`environment` is on top of the container's own.

        Without a terminal both of its outputs are read as one; with `aside`, the second one is given to that instead,
        by whoever reads.
        """
        ...

    def archive(self, volume: str, *, name: str, installation: str) -> LogStream:
        """All that is in a volume, as a tar below `workspace/`, whether containers use it or not.

        It is read through a helper container of that `name`, which is there until the stream is closed. Raises
        `FilesGone` if there is no such volume.
        """
        ...


class Driver(Lifecycle, Streams, Protocol):
    """One engine, both ways."""
