"""Containers' CPU and memory, from their cgroup files (v1 and v2): thousands of times cheaper than asking the engine.

A container's cgroup is known by the 64 hex digits of its id, wherever it lies in the tree: under `docker/<id>` for the
cgroupfs driver, as `docker-<id>.scope` for systemd's, below any parent.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

log = logging.getLogger(__name__)
ID = re.compile(r"(?:^|docker-)([0-9a-f]{64})(?:\.scope)?$")
SCAN_SECONDS = 4.0
"""The tree is walked so often at most; a container is seen that much later."""
DEPTH = 6
NETWORK = "net/dev"
IO_BYTES = re.compile(rb" [rw]bytes=(\d+)")


@dataclass(frozen=True)
class Usage:
    """One container's counters. None is "this kernel does not tell"."""

    container_id: str
    cpu_seconds_total: float
    memory_working_set_bytes: int
    memory_limit_bytes: int | None
    oom_kills: int | None
    network_bytes: tuple[int, int] | None
    """Received and sent, loopback left out; None while no process of it is known."""
    disk_bytes: int | None
    """Read and written."""


class Cgroups:
    """Finds containers and keeps their files open, so that a sample is one read a counter."""

    def __init__(self, root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> None:
        self._root = root
        self._proc = proc
        self.version = 2 if (root / "cgroup.controllers").exists() else 1
        self._open: dict[str, _Container] = {}
        self._walked_at = float("-inf")

    def sample(self) -> list[Usage]:
        """Every container there is. One that vanishes while it is read is left out."""
        self._discover()
        found = []
        for container_id, container in list(self._open.items()):
            try:
                found.append(container.read())
            except (OSError, ValueError):
                container.close()
                del self._open[container_id]
        return found

    def close(self) -> None:
        for container in self._open.values():
            container.close()
        self._open.clear()

    def _discover(self) -> None:
        """Walk the tree every few seconds: a folder's time stamp, which could say when to, is not kept up in there."""
        if time.monotonic() - self._walked_at < SCAN_SECONDS and self._open:
            return
        self._walked_at = time.monotonic()
        for container_id, path in _containers(
            self._root if self.version == 2 else self._root / "memory", DEPTH
        ):
            if container_id not in self._open:
                made = self._made(container_id, path)
                try:
                    made.read()
                except (OSError, ValueError) as error:
                    made.close()  # gone again
                    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                        log.warning("container not measured id=%s error=%s", container_id[:12], error)
                else:
                    self._open[container_id] = made

    def _made(self, container_id: str, path: Path) -> _Container:
        if self.version == 2:
            return _V2(container_id, path, path, self._proc, disk=path)
        inside = path.relative_to(self._root / "memory")
        return _V1(
            container_id,
            path,
            self._root / "cpuacct" / inside,
            self._proc,
            disk=self._root / "blkio" / inside,
        )


class _Container:
    """One container's files, each opened when it is first read and kept: reading from the start renders it anew."""

    DISK: ClassVar[str]
    """The file that counts disk traffic."""

    def __init__(self, container_id: str, memory: Path, cpu: Path, proc: Path, *, disk: Path) -> None:
        self.id = container_id
        self._memory = str(memory)
        self._cpu = str(cpu)
        # a controller that is not there when a container begins does not come later
        self._disk = str(disk) if (disk / self.DISK).exists() else None
        self._proc = proc
        self._files: dict[str, int] = {}

    def read(self) -> Usage:
        """Raises `OSError` when it is gone, `ValueError` when a file makes no sense."""
        raise NotImplementedError

    def close(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def _text(self, folder: str, name: str) -> bytes:
        descriptor = self._files.get(name)
        if descriptor is None:
            descriptor = self._files[name] = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(descriptor, 16384, 0)

    def _oom_kills(self, name: str) -> int | None:
        try:
            return _value(self._text(self._memory, name), b"oom_kill")
        except FileNotFoundError:
            return None

    def _network(self) -> tuple[int, int] | None:
        """(received, sent). Control groups have no network counters: the namespace's own are read, through a process in
        the container. The open file outlives that process."""
        if NETWORK not in self._files:
            first = self._text(self._memory, "cgroup.procs").partition(b"\n")[0].decode()
            try:
                # a container that is just being made may not have left the machine's own namespace yet
                if not first or _namespace(self._proc / first) == _namespace(self._proc / "self"):
                    return None
                self._files[NETWORK] = os.open(self._proc / first / "net/dev", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return None
        return _traffic(os.pread(self._files[NETWORK], 65536, 0))

    def _disk_text(self) -> bytes | None:
        return None if self._disk is None else self._text(self._disk, self.DISK)


class _V1(_Container):
    DISK = "blkio.throttle.io_service_bytes_recursive"

    def read(self) -> Usage:
        stat = self._text(self._memory, "memory.stat")
        used = int(self._text(self._memory, "memory.usage_in_bytes"))
        limit = int(self._text(self._memory, "memory.limit_in_bytes"))
        return Usage(
            container_id=self.id,
            cpu_seconds_total=int(self._text(self._cpu, "cpuacct.usage")) / 1e9,
            memory_working_set_bytes=max(0, used - (_value(stat, b"total_inactive_file") or 0)),
            memory_limit_bytes=limit if limit < 2**60 else None,
            oom_kills=self._oom_kills("memory.oom_control"),
            network_bytes=self._network(),
            disk_bytes=None if (text := self._disk_text()) is None else _value(text, b"Total"),
        )


class _V2(_Container):
    DISK = "io.stat"

    def read(self) -> Usage:
        stat = self._text(self._memory, "memory.stat")
        used = int(self._text(self._memory, "memory.current"))
        limit = self._text(self._memory, "memory.max").strip()
        cpu = _value(self._text(self._cpu, "cpu.stat"), b"usage_usec")
        if cpu is None:
            raise ValueError("cpu.stat names no usage_usec")
        return Usage(
            container_id=self.id,
            cpu_seconds_total=cpu / 1e6,
            memory_working_set_bytes=max(0, used - (_value(stat, b"inactive_file") or 0)),
            memory_limit_bytes=None if limit == b"max" else int(limit),
            oom_kills=self._oom_kills("memory.events"),
            network_bytes=self._network(),
            disk_bytes=None if (text := self._disk_text()) is None else _both_ways(text),
        )


def container_of(pid: int, proc: Path = Path("/proc")) -> str | None:
    """The container a process runs in; None for a process of the machine itself, or one that is gone."""
    try:
        text = (proc / str(pid) / "cgroup").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        for part in line.rpartition(":")[2].split("/"):
            if match := ID.search(part):
                return match[1]
    return None


def _containers(folder: Path, depth: int) -> Iterator[tuple[str, Path]]:
    """Containers' folders; what a container makes below its own is not looked at."""
    try:
        entries = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for entry in entries:
        if match := ID.search(entry.name):
            yield match[1], Path(entry.path)
        elif depth > 1:
            yield from _containers(Path(entry.path), depth - 1)


def _value(text: bytes, name: bytes) -> int | None:
    """The number in the line `name number`; None if there is no such line."""
    at = (b"\n" + text).find(b"\n" + name + b" ")
    return None if at < 0 else int(text[at + len(name) :].partition(b"\n")[0])


def _both_ways(text: bytes) -> int:
    """Bytes read and written over all devices of `io.stat`."""
    return sum(int(number) for number in IO_BYTES.findall(text))


def _namespace(process: Path) -> Path:
    return (process / "ns/net").readlink()


def _traffic(text: bytes) -> tuple[int, int]:
    """(received, sent) over all interfaces of /proc/net/dev but loopback."""
    received = sent = 0
    for line in text.split(b"\n")[2:-1]:
        name, _, counters = line.partition(b":")
        if name.strip() != b"lo":
            fields = counters.split()
            received, sent = received + int(fields[0]), sent + int(fields[8])
    return received, sent
