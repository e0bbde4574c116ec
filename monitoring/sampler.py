"""One pass over everything that is measured on a node, as the report that goes to the api."""

from __future__ import annotations

import time
from datetime import datetime

from leasing.schema.report import (
    ContainerReport,
    DeviceReport,
    FaultReport,
    LinkReport,
    NodeReport,
    ProcessReport,
)
from monitoring.cgroups import Cgroups, Usage, container_of
from monitoring.machine import MachineReader, process_name
from monitoring.nvml import Device, Faults, Nvml, Process


class Sampler:
    """Samples when asked; keeps what makes the next sample cheap."""

    def __init__(
        self, nvml: Nvml, cgroups: Cgroups, machine: MachineReader, *, metrics_address: str | None
    ) -> None:
        self._nvml = nvml
        self._cgroups = cgroups
        self._machine = machine
        self._metrics_address = metrics_address
        self._since = time.monotonic_ns() // 1_000_000

    def sample(self, at: datetime | None = None) -> NodeReport:
        """What there is now, which is no earlier than `at` by the database's clock."""
        machine = self._machine.read()
        inventory = self._nvml.look()
        return NodeReport(
            sequence=time.monotonic_ns()
            // 1_000_000,  # grows across our own restarts too, until the machine's
            sampled_at=at,
            boot_id=machine.boot_id,
            hostname=machine.hostname,
            cpus=machine.cpus,
            memory_bytes=machine.memory_bytes,
            cpu_utilization_ratio=machine.cpu_utilization_ratio,
            memory_used_bytes=machine.memory_used_bytes,
            nvml_driver_version=inventory.driver_version,
            nvml_absent_reason=inventory.absent_reason,
            metrics_address=self._metrics_address,
            devices=None
            if inventory.devices is None
            else [self._device(device) for device in inventory.devices],
            links=[LinkReport(a=a, b=b, rank=rank) for (a, b), rank in inventory.links.items()],
            containers=[_container(usage) for usage in self._cgroups.sample()],
        )

    def close(self) -> None:
        self._nvml.close()
        self._cgroups.close()

    def _device(self, device: Device) -> DeviceReport:
        return DeviceReport(
            uuid=device.uuid,
            index=device.index,
            model=device.model,
            memory_bytes=device.memory_bytes,
            parent_uuid=device.parent_uuid,
            mig_enabled=device.mig_enabled,
            numa_node=device.numa_node,
            pci_bus_id=device.pci_bus_id,
            health="ok" if device.health == "ok" else "lost" if device.health == "lost" else "faulty",
            health_reason=device.health_reason,
            utilization_ratio=device.utilization_ratio,
            memory_used_bytes=device.memory_used_bytes,
            power_watts=device.power_watts,
            temperature_celsius=device.temperature_celsius,
            processes=None
            if device.processes is None
            else [_process(process) for process in device.processes],
            faults=self._faults(device.faults),
        )

    def _faults(self, faults: Faults) -> FaultReport:
        return FaultReport(
            listening_since=self._since,
            xids=None if faults.xids is None else dict(faults.xids),
            ecc_uncorrected=faults.ecc_uncorrected,
            remap_pending=faults.remap_pending,
            remap_failed=faults.remap_failed,
            retirement_pending=faults.retirement_pending,
        )


def _process(process: Process) -> ProcessReport:
    return ProcessReport(
        pid=process.pid,
        memory_bytes=process.memory_bytes,
        container_id=container_of(process.pid),
        name=process_name(process.pid),
        utilization_ratio=process.utilization_ratio,
    )


def _container(usage: Usage) -> ContainerReport:
    return ContainerReport(
        container_id=usage.container_id,
        cpu_seconds_total=usage.cpu_seconds_total,
        memory_working_set_bytes=usage.memory_working_set_bytes,
        memory_limit_bytes=usage.memory_limit_bytes,
        network_rx_bytes_total=usage.network_bytes[0] if usage.network_bytes else None,
        network_tx_bytes_total=usage.network_bytes[1] if usage.network_bytes else None,
        disk_bytes_total=usage.disk_bytes,
        oom_kills=usage.oom_kills,
    )
