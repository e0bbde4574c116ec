"""Can this lease go on that node now? Each filter answers None for yes, or one sentence for people.

All are asked, so that a waiting user sees every reason at once.
"""

from __future__ import annotations

from collections.abc import Callable

from leasing.units import format_size
from scheduler.policy.snapshot import Device, Node, Waiting

Filter = Callable[[Waiting, Node], str | None]


def fitting_devices(lease: Waiting, node: Node) -> list[Device]:
    """The node's free devices that the lease could have, in index order."""
    return [
        device
        for device in sorted(node.devices, key=lambda device: (device.index, device.uuid))
        if device.free and device.unfit is None and is_model(lease, device)
    ]


def is_model(lease: Waiting, device: Device) -> bool:
    """Whether the device is of the model asked for: any part of NVML's name for it, in any case."""
    return lease.gpu_model is None or lease.gpu_model.casefold() in device.model.casefold()


def open_for_leases(_lease: Waiting, node: Node) -> str | None:
    return node.closed


def holds_workspace(lease: Waiting, node: Node) -> str | None:
    if lease.node_id is None or lease.node_id == node.id:
        return None
    return "its workspace lies on another node"


def enough_cpus(lease: Waiting, node: Node) -> str | None:
    if node.cpus_free_millis >= lease.cpus_millis:
        return None
    return f"needs {lease.cpus_millis / 1000:g} CPUs, {node.cpus_free_millis / 1000:g} free"


def enough_memory(lease: Waiting, node: Node) -> str | None:
    if node.memory_free_bytes >= lease.memory_bytes:
        return None
    return f"needs {format_size(lease.memory_bytes)} of memory, {format_size(node.memory_free_bytes)} free"


def enough_devices(lease: Waiting, node: Node) -> str | None:
    free = len(fitting_devices(lease, node))
    if free >= lease.gpu_count:
        return None
    of = f"{lease.gpu_model} " if lease.gpu_model else ""
    unfit = [device for device in node.devices if device.unfit and device.free and is_model(lease, device)]
    left_out = "".join(f"; device {device.index} left out: {device.unfit}" for device in unfit[:8])
    return f"needs {lease.gpu_count} {of}GPU{'s' if lease.gpu_count > 1 else ''}, {free} free{left_out}"


FILTERS: tuple[Filter, ...] = (open_for_leases, holds_workspace, enough_cpus, enough_memory, enough_devices)


def refusals(lease: Waiting, node: Node) -> list[str]:
    """Every reason against the node; empty when the lease fits."""
    return [reason for check in FILTERS if (reason := check(lease, node)) is not None]
