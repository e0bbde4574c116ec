"""An engine in memory, with the failures of a real one on demand: for tests and for measuring everything around it."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from leasing.drivers.fake_streams import ExecStream, LogStream, Output
from leasing.drivers.protocol import (
    LABEL_INSTALLATION,
    Container,
    ContainerEvent,
    ContainerSpec,
    Created,
    Engine,
    Image,
    Progress,
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
    commit_error: DriverError | None = None
    disk_free_bytes: int | None = None
    lose_events: bool = False
    registry: dict[str, RegistryLogin | None] = field(default_factory=dict)
    """What a pull finds: reference → the login that it wants."""
    pull_waits_for: threading.Event | None = None
    ran: Callable[[str, Sequence[str]], Ran] = lambda _container, _command: Ran(exit_code=0, output="")
    """What a command inside a container, given by its name, comes to."""


@dataclass
class _Kept:
    container: Container
    spec: ContainerSpec
    files: dict[str, bytes] = field(default_factory=dict)
    output: Output = field(default_factory=Output)


class FakeDriver:
    """Answers the whole contract. Containers run until told to `exit`; names are taken for ids, as everywhere."""

    def __init__(self, *, images: Sequence[str] = ("leasing-test/image:1",)) -> None:
        self.knobs = Knobs()
        self._lock = threading.RLock()
        self._epoch = secrets.token_hex(8)
        self._images = {name: _image(name) for name in images}
        self._files: dict[str, dict[str, bytes]] = {}
        self._containers: dict[str, _Kept] = {}
        self._networks: dict[str, str] = {}
        self._volumes: dict[str, str] = {}
        self._followers: list[tuple[str, queue.SimpleQueue[ContainerEvent | EngineDown | None]]] = []
        self._history: list[ContainerEvent] = []
        self._address = 1

    def exit(self, container_id: str, code: int, *, oom: bool = False) -> None:
        """Its command ends by itself."""
        with self._lock:
            self._die(self._kept(container_id), code, oom=oom)

    def restart_engine(self) -> None:
        """The engine goes down with its containers and comes back."""
        with self._lock:
            for kept in self._containers.values():
                if kept.container.running:
                    self._die(kept, 143)
            self._epoch = secrets.token_hex(8)
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
            )

    def epoch(self) -> str | None:
        with self._up():
            return self._epoch

    def find_image(self, reference: str) -> Image | None:
        with self._up():
            return self._images.get(reference)

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
            self._images[reference] = _image(reference)
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
            self._images[tag] = _image(tag)
            return self._images[tag]

    def import_image(self, tarball: Path, *, tag: str, changes: Sequence[str] = ()) -> Image:
        with self._up():
            self._images[tag] = _image(tag)
            return self._images[tag]

    def commit(self, container_id: str, *, tag: str, labels: Mapping[str, str]) -> Image:
        with self._up():
            if tag in self._images:
                return self._images[tag]
            if self.knobs.commit_error is not None:
                raise self.knobs.commit_error
            kept = self._kept(container_id)
            base = self._images[kept.spec.image]
            self._files[tag] = dict(kept.files)
            self._images[tag] = replace(_image(tag), labels={**base.labels, **labels}, runs=base.runs)
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

    def create(self, spec: ContainerSpec) -> Created:
        with self._up():
            if self.knobs.create_error is not None:
                raise self.knobs.create_error
            if spec.image not in self._images:
                raise ImageNotFound(f"There is no image {spec.image} on the engine.")
            found = self._containers.get(spec.name)
            if found is not None:
                if dict(found.container.labels) != dict(spec.labels):
                    raise DriverError(f"A container called {spec.name} exists and is not this lease's.")
                return Created(id=found.container.id, epoch=self._epoch)
            owner = spec.labels[LABEL_INSTALLATION]
            self._networks[spec.network] = owner
            for mount in spec.mounts:
                self._volumes.setdefault(mount.volume, owner)
            made = Container(
                id=secrets.token_hex(32),
                name=spec.name,
                state="created",
                labels=dict(spec.labels),
                image=self._images[spec.image].id,
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
            if not kept.container.running:
                self._address += 1
                kept.container = replace(
                    kept.container,
                    state="running",
                    started_at=datetime.now(UTC),
                    finished_at=None,
                    exit_code=None,
                    address=f"10.213.{self._address // 250 % 250}.{self._address % 250 + 1}",
                    pid=self._address,
                )
                kept.output.set_ended(False)
                self._tell(kept, "start")
            return kept.container

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
            ]

    def networks(self, installation: str) -> list[str]:
        with self._up():
            return [name for name, owner in self._networks.items() if owner == installation]

    def remove_network(self, name: str) -> None:
        with self._up():
            self._networks.pop(name, None)

    def volumes(self, installation: str) -> list[str]:
        with self._up():
            return [name for name, owner in self._volumes.items() if owner == installation]

    def remove_volume(self, name: str) -> None:
        with self._up():
            self._volumes.pop(name, None)

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
        self, container_id: str, command: Sequence[str], *, tty: bool, columns: int = 80, rows: int = 24
    ) -> ExecStream:
        with self._up():
            if not self._kept(container_id).container.running:
                raise DriverError(f"The container {container_id} is not running.")
            return ExecStream()

    def close(self) -> None:
        with self._lock:
            for _, inbox in self._followers:
                inbox.put(None)
            self._followers.clear()

    def _up(self) -> threading.RLock:
        if self.knobs.down:
            raise EngineDown("The engine in memory is down.")
        return self._lock

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


def _image(name: str) -> Image:
    return Image(
        id=f"sha256:{name}", tags=(name,), size_bytes=1000, created_at=datetime.now(UTC), labels={}, runs=True
    )
