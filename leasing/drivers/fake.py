"""An engine in memory, with the failures of a real one on demand: for tests and for measuring everything around it."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from leasing.drivers.fake_copying import FakeCopying
from leasing.drivers.fake_images import FakeImages, an_image
from leasing.drivers.fake_streams import ExecStream, LogStream, Output
from leasing.drivers.fake_volumes import FakeVolumes
from leasing.drivers.protocol import (
    LABEL_INSTALLATION,
    Container,
    ContainerEvent,
    ContainerSpec,
    Created,
    Engine,
    HandOver,
    Image,
    Ran,
    RegistryLogin,
)
from leasing.errors import ContainerGone, DriverError, EngineDown, ImageNotFound


@dataclass
class Knobs:
    """What shall go wrong, until it is set back."""

    down: bool = False
    create_error: DriverError | None = None
    start_error: DriverError | None = None
    hand_over_error: DriverError | None = None
    commit_error: DriverError | None = None
    disk_free_bytes: int | None = None
    lose_events: bool = False
    registry: dict[str, RegistryLogin | None] = field(default_factory=dict)
    """What a pull finds: reference → the login that it wants."""
    pull_waits_for: threading.Event | None = None
    greeting: bytes = b""
    """What a command says first that is spoken with."""
    ran: Callable[[str, Sequence[str]], Ran] = lambda _container, _command: Ran(exit_code=0, output="")
    """What a command inside a container, given by its name, comes to."""


@dataclass
class _Kept:
    container: Container
    spec: ContainerSpec
    files: dict[str, bytes] = field(default_factory=dict)
    output: Output = field(default_factory=Output)
    handed: list[HandOver] = field(default_factory=list)


@dataclass
class _Disk:
    """All that outlives an engine's start."""

    containers: dict[str, _Kept] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)


class FakeDriver(FakeImages, FakeVolumes, FakeCopying):
    """Answers the whole contract. Containers run until told to `exit`; names are taken for ids, as everywhere."""

    def __init__(self, *, images: Sequence[str] = ("leasing-test/image:1",)) -> None:
        super().__init__()
        self.knobs = Knobs()
        self._lock = threading.RLock()
        self._epoch = secrets.token_hex(8)
        self._images = {name: an_image(name) for name in images}
        self._files: dict[str, dict[str, bytes]] = {}
        self._containers: dict[str, _Kept] = {}
        self._networks: dict[str, str] = {}
        self._disk: _Disk | None = None
        """What it had, while that is not mounted."""
        self._followers: list[tuple[str, queue.SimpleQueue[ContainerEvent | EngineDown | None]]] = []
        self._history: list[ContainerEvent] = []
        self._address = 1

    def exit(self, container_id: str, code: int, *, oom: bool = False) -> None:
        """Its command ends by itself."""
        with self._lock:
            self._die(self._kept(container_id), code, oom=oom)

    def restart_engine(self, *, mounted: bool = True) -> None:
        """The engine goes down with its containers and comes back: without all that it had, while its disk is not
        `mounted`."""
        with self._lock:
            for kept in self._containers.values():
                if kept.container.running:
                    self._die(kept, 143)
            self._epoch = secrets.token_hex(8)
            if mounted is not (self._disk is None):
                before = _Disk(self._containers, self._networks, self._images, self._files, self._volumes)
                found, self._disk = self._disk or _Disk(), None if mounted else before
                self._containers, self._networks = found.containers, found.networks
                self._images, self._files, self._volumes = found.images, found.files, found.volumes
            for _, inbox in self._followers:
                inbox.put(EngineDown("The engine in memory closed its event stream."))

    def say(self, container_id: str, data: bytes) -> None:
        """It prints that."""
        with self._lock:
            self._kept(container_id).output.say(data)

    def forget(self, container_id: str) -> None:
        """Somebody removed it behind our back."""
        with self._lock:
            del self._containers[self._kept(container_id).container.name]

    def spec(self, container_id: str) -> ContainerSpec:
        """What it was made from."""
        with self._lock:
            return self._kept(container_id).spec

    def file(self, container_id: str, path: str) -> bytes | None:
        """What was written into it."""
        with self._lock:
            return self._kept(container_id).files.get(path)

    def probe(self) -> Engine:
        with self._up():
            return Engine(
                version="fake",
                epoch=self._epoch,
                cpus=64,
                memory_bytes=2**38,
                disk_free_bytes=self.knobs.disk_free_bytes,
                gpu_runtime=True,
                cgroup_version=2,
                sandboxes=True,
                disk_quota=self.disk_quota,
            )

    def epoch(self) -> str | None:
        with self._up():
            return self._epoch

    def create(self, spec: ContainerSpec) -> Created:
        with self._up():
            if self.knobs.create_error is not None:
                raise self.knobs.create_error
            image = self._image(spec.image)
            if image is None:
                raise ImageNotFound(f"There is no image {spec.image} on the engine.")
            spec = replace(spec, image=next(tag for tag, one in self._images.items() if one is image))
            found = self._containers.get(spec.name)
            if found is not None:
                if dict(found.container.labels) != dict(spec.labels):
                    raise DriverError(f"A container called {spec.name} exists and is not this lease's.")
                if spec.sandbox is not None:
                    self._start(self._kept(spec.sandbox))
                return Created(id=found.container.id, epoch=self._epoch)
            owner = spec.labels[LABEL_INSTALLATION]
            if spec.sandbox is None:
                self._networks[spec.network] = owner
            else:
                self._start(self._kept(spec.sandbox))
            for mount in spec.mounts:
                self._volumes.setdefault(mount.volume, owner)
            made = Container(
                id=secrets.token_hex(32),
                name=spec.name,
                state="created",
                labels=dict(spec.labels),
                image=image.id,
                created_at=datetime.now(UTC),
            )
            if spec.follows is not None:
                self._kept(spec.follows)
            self._containers[spec.name] = _Kept(made, spec, dict(self._files.get(spec.image, {})))
            return Created(id=made.id, epoch=self._epoch)

    def start(self, container_id: str) -> Container:
        with self._up():
            if self.knobs.start_error is not None:
                raise self.knobs.start_error
            kept = self._kept(container_id)
            self._start(kept)
            return kept.container

    def sandbox(self, name: str, bridge: str, labels: Mapping[str, str]) -> Container:
        with self._up():
            if name not in self._containers:
                spec = ContainerSpec(
                    name=name, image="", command=None, environment={}, labels=labels, network=name, bridge=bridge,
                    hostname="lease", user="", home="", working_dir=None, cpus=0, memory_bytes=0, shm_bytes=0,
                    pids_limit=16,
                )  # fmt: skip
                made = Container(
                    id=secrets.token_hex(32), name=name, state="created", labels=dict(labels), image="",
                    created_at=datetime.now(UTC),
                )  # fmt: skip
                self._containers[name] = _Kept(made, spec)
            self._networks[name] = labels[LABEL_INSTALLATION]
            self._start(self._containers[name])
            return self._containers[name].container

    def hand_over(self, container_id: str, becomes: HandOver) -> Container:
        with self._up():
            if self.knobs.hand_over_error is not None:
                raise self.knobs.hand_over_error
            kept = self._kept(container_id)
            self._start(kept)
            del self._containers[kept.container.name]
            kept.container = replace(kept.container, name=becomes.name)
            kept.handed.append(becomes)
            self._containers[becomes.name] = kept
            return kept.container

    def handed(self, container_id: str) -> list[HandOver]:
        """What it was told to become, each time it was."""
        with self._lock:
            return list(self._kept(container_id).handed)

    def write_file(self, container_id: str, path: str, content: bytes) -> None:
        with self._up():
            self._kept(container_id).files[path] = content

    def run(self, container_id: str, command: Sequence[str], *, seconds: float) -> Ran:
        with self._up():
            kept = self._kept(container_id)
            if not kept.container.running:
                raise DriverError(f"The container {container_id} is not running.")
        return self.knobs.ran(kept.container.name, command)

    def inspect(self, container_id: str) -> Container | None:
        with self._up():
            try:
                return self._kept(container_id).container
            except ContainerGone:
                return None

    def stop(self, container_id: str, *, grace_seconds: int) -> None:
        with self._up():
            kept = self._find(container_id)
            if kept is not None and kept.container.running:
                self._die(kept, 143)

    def remove(self, container_id: str, *, network: str | None) -> None:
        with self._up():
            self.helpers.pop(container_id, None)
            kept = self._find(container_id)
            if kept is not None:
                del self._containers[kept.container.name]
                self._tell(kept, "destroy")
            if network is not None:
                self._networks.pop(network, None)

    def containers(self, installation: str) -> list[Container]:
        with self._up():
            return [
                kept.container
                for kept in self._containers.values()
                if kept.container.labels.get(LABEL_INSTALLATION) == installation
            ] + [one for one in self.helpers.values() if one.labels.get(LABEL_INSTALLATION) == installation]

    def networks(self, installation: str) -> list[str]:
        with self._up():
            return [name for name, owner in self._networks.items() if owner == installation]

    def remove_network(self, name: str) -> None:
        with self._up():
            self._networks.pop(name, None)

    def events(self, installation: str, *, since: datetime) -> Iterator[ContainerEvent]:
        inbox: queue.SimpleQueue[ContainerEvent | EngineDown | None] = queue.SimpleQueue()
        follower = (installation, inbox)
        with self._up():
            missed = [event for event in self._history if event.at >= since]
            self._followers.append(follower)
        try:
            for event in missed:
                if event.labels.get(LABEL_INSTALLATION) == installation:
                    yield event
            while (found := inbox.get()) is not None:
                if isinstance(found, EngineDown):
                    raise found
                yield found
        finally:
            with self._lock:
                if follower in self._followers:
                    self._followers.remove(follower)

    def tail(self, container_id: str, lines: int) -> str:
        with self._up():
            kept = self._find(container_id)
            return "" if kept is None else kept.output.last(lines).decode(errors="replace")

    def logs(self, container_id: str, *, follow: bool, tail: int | None) -> LogStream:
        with self._up():
            return LogStream(self._kept(container_id).output, follow=follow, tail=tail)

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
        with self._up():
            if not self._kept(container_id).container.running:
                raise DriverError(f"The container {container_id} is not running.")
            return ExecStream(self.knobs.greeting)

    def close(self) -> None:
        with self._lock:
            for _, inbox in self._followers:
                inbox.put(None)
            self._followers.clear()

    def _up(self) -> threading.RLock:
        if self.knobs.down:
            raise EngineDown("The engine in memory is down.")
        return self._lock

    def _files_of(self, container_id: str) -> dict[str, bytes]:
        return self._kept(container_id).files

    def _made_at(self, container_id: str) -> datetime:
        return self._kept(container_id).container.created_at

    def _mounted(self) -> set[str]:
        return {mount.volume for kept in self._containers.values() for mount in kept.spec.mounts}

    def _find(self, container_id: str) -> _Kept | None:
        for kept in self._containers.values():
            if container_id in (kept.container.id, kept.container.name):
                return kept
        return None

    def _kept(self, container_id: str) -> _Kept:
        kept = self._find(container_id)
        if kept is None:
            raise ContainerGone
        return kept

    def _start(self, kept: _Kept) -> None:
        if kept.container.running:
            return
        joined = None if kept.spec.sandbox is None else self._kept(kept.spec.sandbox)
        if joined is not None and not joined.container.running:
            raise DriverError("cannot join network of a non running container")
        self._address += 1
        kept.container = replace(
            kept.container,
            state="running",
            started_at=datetime.now(UTC),
            finished_at=None,
            exit_code=None,
            address=joined.container.address
            if joined is not None
            else f"10.213.{self._address // 250 % 250}.{self._address % 250 + 1}",
            pid=self._address,
        )
        kept.output.set_ended(False)
        self._tell(kept, "start")

    def _die(self, kept: _Kept, code: int, *, oom: bool = False) -> None:
        kept.container = replace(
            kept.container,
            state="exited",
            exit_code=code,
            oom_killed=oom,
            finished_at=datetime.now(UTC),
            address=None,
            pid=None,
        )
        kept.output.set_ended(True)
        self._tell(kept, "die")

    def _tell(self, kept: _Kept, action: str) -> None:
        event = ContainerEvent(
            container_id=kept.container.id, action=action, at=datetime.now(UTC), labels=kept.container.labels
        )
        if self.knobs.lose_events:
            return
        self._history.append(event)
        for installation, inbox in self._followers:
            if kept.container.labels.get(LABEL_INSTALLATION) == installation:
                inbox.put(event)
