"""Containers' CPU and memory, from their cgroup files (v1 and v2): thousands of times cheaper than asking the engine.

A container's cgroup is known by the 64 hex digits of its id, wherever it lies in the tree: under `docker/<id>` for the
cgroupfs driver, as `docker-<id>.scope` for systemd's, below any parent.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ID = re.compile(r"(?:^|docker-)([0-9a-f]{64})(?:\.scope)?$")
SCAN_SECONDS = 4.0
"""The tree is walked so often at most; a container is seen that much later."""
DEPTH = 6


@dataclass(frozen=True)
class Usage:
    """One container's counters. None is "this kernel does not tell"."""

    container_id: str
    cpu_seconds_total: float
    memory_working_set_bytes: int
    memory_limit_bytes: int | None
    oom_kills: int | None
    pid: int | None
    """A process in it, by its host PID: the way to its network counters."""


class Cgroups:
    """Finds containers and keeps their files open, so that a sample is a handful of reads."""

    def __init__(self, root: Path = Path("/sys/fs/cgroup")) -> None:
        self._root = root
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
                try:
                    self._open[container_id] = self._opened(container_id, path)
                except OSError:
                    continue  # gone again

    def _opened(self, container_id: str, path: Path) -> _Container:
        if self.version == 2:
            return _V2(container_id, path)
        return _V1(container_id, path, self._root / "cpuacct" / path.relative_to(self._root / "memory"))


class _Container:
    """Open files of one container."""

    def __init__(self, container_id: str, path: Path) -> None:
        self.id = container_id
        self.path = path
        self._files: dict[Path, int] = {}

    def read(self) -> Usage:
        raise NotImplementedError

    def close(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def _text(self, path: Path) -> str:
        """The file's content now, through a descriptor that is kept: seeking back makes the kernel render it anew."""
        descriptor = self._files.get(path)
        if descriptor is None:
            descriptor = self._files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(descriptor, 16384, 0).decode()

    def _maybe(self, path: Path) -> str | None:
        try:
            return self._text(path)
        except FileNotFoundError:
            return None


class _V1(_Container):
    def __init__(self, container_id: str, memory: Path, cpu: Path) -> None:
        super().__init__(container_id, memory)
        self._cpu = cpu

    def read(self) -> Usage:
        stat = _pairs(self._text(self.path / "memory.stat"))
        used = int(self._text(self.path / "memory.usage_in_bytes"))
        limit = int(self._text(self.path / "memory.limit_in_bytes"))
        oom = _pairs(self._maybe(self.path / "memory.oom_control") or "")
        return Usage(
            container_id=self.id,
            cpu_seconds_total=int(self._text(self._cpu / "cpuacct.usage")) / 1e9,
            memory_working_set_bytes=max(0, used - stat.get("total_inactive_file", 0)),
            memory_limit_bytes=limit if limit < 2**60 else None,
            oom_kills=oom.get("oom_kill"),
            pid=_first(self._text(self.path / "cgroup.procs")),
        )


class _V2(_Container):
    def read(self) -> Usage:
        stat = _pairs(self._text(self.path / "memory.stat"))
        used = int(self._text(self.path / "memory.current"))
        limit = self._text(self.path / "memory.max").strip()
        return Usage(
            container_id=self.id,
            cpu_seconds_total=_pairs(self._text(self.path / "cpu.stat"))["usage_usec"] / 1e6,
            memory_working_set_bytes=max(0, used - stat.get("inactive_file", 0)),
            memory_limit_bytes=None if limit == "max" else int(limit),
            oom_kills=_pairs(self._maybe(self.path / "memory.events") or "").get("oom_kill"),
            pid=_first(self._text(self.path / "cgroup.procs")),
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


def _pairs(text: str) -> dict[str, int]:
    """`name value` lines."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit():
            found[name] = int(value)
    return found


def _first(text: str) -> int | None:
    line = text.partition("\n")[0]
    return int(line) if line else None
