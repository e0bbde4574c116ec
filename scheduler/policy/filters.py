"""Can this lease go on that node now? Each filter answers None for yes, or one sentence for people.

All are asked, so that a waiting user sees every reason at once.
"""

from __future__ import annotations

from collections.abc import Callable

from leasing.gpus import WHOLE, GpuAsk
from leasing.units import format_size
from scheduler.policy.snapshot import Device, Grant, Node, Waiting

Filter = Callable[[Waiting, Node], str | None]


def grants(lease: Waiting, node: Node) -> list[Grant]:
    """What each of the node's devices could give to the lease, in index order."""
    found = []
    for device in sorted(node.devices, key=lambda device: (device.index, device.uuid)):
        grant = _grant(lease.request.gpu, device)
        if grant is not None and device.unfit is None:
            found.append(grant)
    return found


def _grant(ask: GpuAsk, device: Device) -> Grant | None:
    """What the device has for the ask now; None if it is of another model, or has too little left."""
    if not ask.takes(device.model, instance=device.instance):
        return None
    share, memory = ask.share_of(device.memory_bytes), ask.memory_of(device.memory_bytes)
    if share is None or share > device.share_free or memory > device.memory_free_bytes:
        return None
    return Grant(device, share, memory)


def open_for_leases(_lease: Waiting, node: Node) -> str | None:
    return node.closed


def holds_workspace(lease: Waiting, node: Node) -> str | None:
    if lease.node_id is None or lease.node_id == node.id:
        return None
    return "its workspace lies on another node"


def enough_cpus(lease: Waiting, node: Node) -> str | None:
    if node.cpus_free_millis >= lease.request.cpus_millis:
        return None
    return f"needs {lease.request.cpus_millis / 1000:g} CPUs, {node.cpus_free_millis / 1000:g} free"


def enough_memory(lease: Waiting, node: Node) -> str | None:
    if node.memory_free_bytes >= lease.request.memory_bytes:
        return None
    return f"needs {format_size(lease.request.memory_bytes)} of memory, {format_size(node.memory_free_bytes)} free"


def enough_devices(lease: Waiting, node: Node) -> str | None:
    ask = lease.request.gpu
    free = len(grants(lease, node)) if ask.count else 0
    if free >= ask.count:
        return None
    unfit = [device for device in node.devices if device.unfit and _grant(ask, device) is not None]
    left_out = "".join(f"; device {device.index} left out: {device.unfit}" for device in unfit[:8])
    of = f"{ask.model} " if ask.model else ""
    if not ask.whole:
        part = f"{format_size(ask.memory_bytes)} of" if ask.memory_bytes else f"{ask.share / WHOLE:g} of"
        return f"needs {part} a {of}GPU, no device has it free{left_out}"
    return f"needs {ask.count} {of}GPU{'s' if ask.count > 1 else ''}, {free} free{left_out}"


FILTERS: tuple[Filter, ...] = (open_for_leases, holds_workspace, enough_cpus, enough_memory, enough_devices)


def refusals(lease: Waiting, node: Node) -> list[str]:
    """Every reason against the node; empty when the lease fits."""
    return [reason for check in FILTERS if (reason := check(lease, node)) is not None]
