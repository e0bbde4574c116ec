"""The machine itself: its boot, processors, memory; and a process's network."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """What a node has and how busy it is. The ratio is None in the first sample."""

    boot_id: str
    hostname: str
    cpus: int
    memory_bytes: int
    memory_used_bytes: int
    cpu_utilization_ratio: float | None


class MachineReader:
    """Reads /proc; remembers the last CPU counters, for the ratio between two samples."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._last: tuple[int, int] | None = None

    def read(self) -> Machine:
        memory = _meminfo((self._proc / "meminfo").read_text())
        return Machine(
            boot_id=(self._proc / "sys/kernel/random/boot_id").read_text().strip(),
            hostname=socket.gethostname(),
            cpus=os.cpu_count() or 1,
            memory_bytes=memory["MemTotal"],
            memory_used_bytes=memory["MemTotal"] - memory.get("MemAvailable", memory["MemFree"]),
            cpu_utilization_ratio=self._busy(),
        )

    def _busy(self) -> float | None:
        fields = [int(one) for one in (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
        total, idle = sum(fields), fields[3] + fields[4]
        last, self._last = self._last, (total, idle)
        if last is None or total <= last[0]:
            return None
        return min(1.0, max(0.0, 1 - (idle - last[1]) / (total - last[0])))


def process_name(pid: int, proc: Path = Path("/proc")) -> str:
    """The process's short name; empty if it is gone."""
    try:
        return (proc / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def _meminfo(text: str) -> dict[str, int]:
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return found
