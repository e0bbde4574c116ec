"""A machine with GPUs for tests: the fake NVML library, compiled once, with a state that tests change as they go."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "fakes" / "nvml.c"
GIB = 1024**3


def compile_library(folder: Path) -> Path:
    """The shared library, built into `folder` if it is not there yet."""
    library = folder / "libnvidia-ml.so.1"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f"{library.name}.part"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-O1", f"-Wl,-soname,{library.name}", "-o", made, SOURCE], check=True
        )
        made.rename(library)
    return library


@dataclass(frozen=True)
class FakeDevice:
    """One device's line in the state file."""

    uuid: str
    name: str = "NVIDIA A100-SXM4-40GB"
    total: int = 40 * GIB
    used: int = 0
    util: int = 0
    power: int = 60_000
    temp: int = 35
    pci: str = "00000000:07:00.0"
    mig: int = 0
    numa: int = 0
    state: str = "ok"
    links: tuple[int, ...] = ()
    processes: tuple[tuple[int, ...], ...] = field(default=())
    """PID and bytes, and percent of the device's time if it tells of that (`uses=1` among the faults)."""
    faults: str = ""
    """What it tells of its faults, as the library wants it: `xid=79:1;ecc=0;pending=0`. Empty: it supports none."""

    def line(self) -> str:
        links = ",".join(str(index) for index in self.links) or "-"
        processes = ",".join(":".join(map(str, process)) for process in self.processes) or "-"
        return (
            f"{self.uuid}|{self.name}|{self.total}|{self.used}|{self.util}|{self.power}|{self.temp}|{self.pci}|"
            f"{self.mig}|{self.numa}|{self.state}|{links}|{processes}{'|' + self.faults if self.faults else ''}"
        )


def eight() -> list[FakeDevice]:
    """Two groups of four, joined by NVLink within a group, on two NUMA nodes."""
    return [
        FakeDevice(
            uuid=f"GPU-00000000-0000-0000-0000-00000000000{index}",
            pci=f"00000000:{index + 1:02x}:00.0",
            numa=index // 4,
            links=tuple(other for other in range(8) if other // 4 == index // 4 and other != index),
        )
        for index in range(8)
    ]


class FakeNvml:
    """The library and its state. Every change is written at once, atomically."""

    def __init__(self, folder: Path, devices: list[FakeDevice] | None = None) -> None:
        self.library = compile_library(folder)
        self.state = folder / "nvml.state"
        self.devices = {device.uuid: device for device in (eight() if devices is None else devices)}
        self.write()

    @property
    def uuids(self) -> list[str]:
        return list(self.devices)

    def environment(self) -> dict[str, str]:
        """For a process that shall see these devices."""
        return {"FAKE_NVML_STATE": str(self.state), "LEASING_NODE_NVML_LIBRARY": str(self.library)}

    def change(self, uuid: str, **facts: object) -> None:
        self.devices[uuid] = replace(self.devices[uuid], **facts)  # type: ignore[arg-type]  # checked by the dataclass
        self.write()

    def write(self) -> None:
        part = self.state.with_suffix(".part")
        part.write_text("".join(f"{device.line()}\n" for device in self.devices.values()))
        part.rename(self.state)
