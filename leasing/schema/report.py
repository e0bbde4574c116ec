"""What a node's sampler reports: facts of the machine, its devices and its containers, at one moment.

The sampler knows containers only; which lease they carry is the api's to say. None is "cannot be measured", never 0.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints, field_validator

from leasing.schema.base import Request, Wire

Short = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00]*$")]
"""Text that a database can hold."""
ContainerId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Uuid = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,96}$")]
Bytes = Annotated[int, Field(ge=0, lt=2**62)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, lt=1e12)]


class ProcessReport(Request):
    """A process on a device, by its host PID, with the container it runs in if any."""

    pid: int = Field(ge=0, lt=2**31)
    memory_bytes: Bytes | None = None
    container_id: ContainerId | None = None
    name: Short = ""
    utilization_ratio: Ratio | None = None
    """Of the device, by this process alone, since the last look."""


class FaultReport(Request):
    """What a device tells of faults of its own; None is "does not tell".

    Counters and states as they are now: which of them are news is judged where they are kept.
    """

    listening_since: int = Field(0, ge=0, lt=2**62)
    """Since when Xid errors are counted; another value is another count."""
    xids: dict[Annotated[int, Field(ge=0, lt=10_000)], Annotated[int, Field(ge=1, lt=2**62)]] | None = Field(
        None, max_length=1000
    )
    """Code of an Xid error → how often."""
    ecc_uncorrected: int | None = Field(None, ge=0, lt=2**62)
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    retirement_pending: bool | None = None


class DeviceReport(Request):
    """A device as NVML sees it."""

    uuid: Uuid
    index: int = Field(ge=0, lt=10_000)
    model: Short
    memory_bytes: Bytes
    parent_uuid: Uuid | None = None
    """Of the device a MIG instance is a part of."""
    mig_enabled: bool = False
    numa_node: int | None = Field(None, ge=-1, lt=10_000)
    pci_bus_id: Short | None = None
    health: Literal["ok", "lost", "faulty"]
    health_reason: Short = ""
    utilization_ratio: Ratio | None = None
    memory_used_bytes: Bytes | None = None
    power_watts: float | None = Field(None, ge=0, lt=1e6)
    temperature_celsius: float | None = Field(None, gt=-300, lt=1e4)
    processes: list[ProcessReport] | None = Field(None, max_length=4096)
    faults: FaultReport = Field(default_factory=FaultReport)


class LinkReport(Request):
    """How well two devices are connected; a higher rank is better."""

    a: Uuid
    b: Uuid
    rank: int = Field(ge=0, le=1000)


class ContainerReport(Request):
    """A container by its engine's id, from its cgroup and its network namespace; counters are since its start."""

    container_id: ContainerId
    cpu_seconds_total: Seconds
    memory_working_set_bytes: Bytes
    memory_limit_bytes: Bytes | None = None
    network_rx_bytes_total: Bytes | None = None
    network_tx_bytes_total: Bytes | None = None
    disk_bytes_total: Bytes | None = None
    """Read and written."""
    oom_kills: int | None = Field(None, ge=0, lt=2**62)


class NodeReport(Request):
    """One pass of a sampler. `sequence` grows from pass to pass within a boot of the machine."""

    sequence: int = Field(ge=0, lt=2**62)
    sampled_at: AwareDatetime | None = None
    """No later than NVML was read, by the database's clock: as it was in the last answer, and on from there. None while
    there was none. What happened before it is certainly seen in this report, however long that was on its way."""
    boot_id: Short
    hostname: Short
    cpus: float = Field(gt=0, lt=100_000)
    memory_bytes: Bytes
    cpu_utilization_ratio: Ratio | None = None
    memory_used_bytes: Bytes | None = None
    nvml_driver_version: Short | None = None
    nvml_absent_reason: Short | None = None
    metrics_address: Short | None = None
    """host:port at which the sampler serves /metrics."""
    devices: list[DeviceReport] | None = Field(None, max_length=1024)
    """None when NVML could not be asked this time: says nothing about devices known before."""
    links: list[LinkReport] = Field(default_factory=list, max_length=20_000)
    containers: list[ContainerReport] = Field(default_factory=list, max_length=10_000)

    @field_validator("devices")
    @classmethod
    def _each_once(cls, devices: list[DeviceReport] | None) -> list[DeviceReport] | None:
        if devices is not None and len({device.uuid for device in devices}) < len(devices):
            raise ValueError("a device is listed twice")
        return devices


class ReportAccepted(Wire):
    """The answer: which containers are leases here (the others need not be reported), and how often to report."""

    known_containers: list[str]
    interval_seconds: float
    at: datetime | None = None
    """The database's clock, no later than this answer."""
    soon: bool = False
    """A device waits for the proof that it is clean: report again at once."""
