"""Can this lease go on that node now? Each filter answers None for yes, or one sentence for people.

All are asked, so that a waiting user sees every reason at once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from leasing.gpus import WHOLE, GpuAsk
from leasing.units import format_size
from scheduler.policy.promises import own, promised
from scheduler.policy.snapshot import Device, Grant, Node, Waiting

Filter = Callable[[Waiting, Node, datetime], str | None]
"""Lease, node, and the moment at which it would start."""


def grants(lease: Waiting, node: Node, at: datetime) -> list[Grant]:
    """What each of the node's devices could give to the lease for its whole time, in index order."""
    mine = own(node, lease)
    others = promised(node, lease, at, lease.end(at)).devices
    found = []
    for device in sorted(node.devices, key=lambda device: (device.index, device.uuid)):
        if device.unfit is not None or device.id in others or (mine and device.id not in mine.device_ids):
            continue
        if (grant := granted(lease.request.gpu, device)) is not None:
            found.append(grant)
    return found


def granted(ask: GpuAsk, device: Device) -> Grant | None:
    """What the device has for the ask now; None if it is of another model, or has too little left."""
    if not ask.takes(device.model, instance=device.instance):
        return None
    share, memory = ask.share_of(device.memory_bytes), ask.memory_of(device.memory_bytes)
    if share is None or share > device.share_free or memory > device.memory_free_bytes:
        return None
    return Grant(device, share, memory)


def open_for_leases(_lease: Waiting, node: Node, _at: datetime) -> str | None:
    return node.closed


def holds_files(lease: Waiting, node: Node, _at: datetime) -> str | None:
    if lease.node_id is None or lease.node_id == node.id:
        return None
    return "its workspace lies on another node"


def asked_for(lease: Waiting, node: Node, _at: datetime) -> str | None:
    if lease.node_name is not None and lease.node_name != node.name:
        return f"only node {lease.node_name} was asked for"
    missing = [f"{key}={value}" for key, value in lease.labels.items() if node.labels.get(key) != value]
    return f"is not labelled {', '.join(missing)}" if missing else None


def in_its_reservation(lease: Waiting, node: Node, at: datetime) -> str | None:
    if lease.reservation_id is None:
        return None
    mine = own(node, lease)
    if mine is None:
        return "its reservation holds devices of another node"
    if at < mine.starts_at:
        return f"its reservation {mine.name} begins at {mine.starts_at:%Y-%m-%d %H:%M %Z}"
    if at >= mine.ends_at:
        return f"its reservation {mine.name} is over"
    asked = lease.request
    if asked.cpus_millis <= mine.cpus_millis and asked.memory_bytes <= mine.memory_bytes:
        return None
    left = f"{mine.cpus_millis / 1000:g} CPUs and {format_size(mine.memory_bytes)} of memory"
    return f"its reservation {mine.name} has {left} left"


def enough_cpus(lease: Waiting, node: Node, at: datetime) -> str | None:
    kept = promised(node, lease, at, lease.end(at)).cpus_millis
    if node.cpus_free_millis - kept >= lease.request.cpus_millis:
        return None
    of_them = f", {kept / 1000:g} of them reserved" if kept else ""
    return f"needs {lease.request.cpus_millis / 1000:g} CPUs, {node.cpus_free_millis / 1000:g} free{of_them}"


def enough_memory(lease: Waiting, node: Node, at: datetime) -> str | None:
    kept = promised(node, lease, at, lease.end(at)).memory_bytes
    if node.memory_free_bytes - kept >= lease.request.memory_bytes:
        return None
    free = format_size(node.memory_free_bytes) + (
        f" free, {format_size(kept)} of it reserved" if kept else " free"
    )
    return f"needs {format_size(lease.request.memory_bytes)} of memory, {free}"


def enough_devices(lease: Waiting, node: Node, at: datetime) -> str | None:
    ask = lease.request.gpu
    free = len(grants(lease, node, at)) if ask.count else 0
    if free >= ask.count:
        return None
    others = promised(node, lease, at, lease.end(at)).devices
    able = [device for device in node.devices if granted(ask, device) is not None]
    why = [
        (device, device.unfit or f"reserved from {others[device.id].starts_at:%Y-%m-%d %H:%M %Z}")
        for device in able
        if device.unfit or device.id in others
    ]
    left_out = "".join(f"; device {device.index} left out: {because}" for device, because in why[:8])
    of = f"{ask.model} " if ask.model else ""
    if not ask.whole:
        part = f"{format_size(ask.memory_bytes)} of" if ask.memory_bytes else f"{ask.share / WHOLE:g} of"
        return f"needs {part} a {of}GPU, no device has it free{left_out}"
    return f"needs {ask.count} {of}GPU{'s' if ask.count > 1 else ''}, {free} free{left_out}"


FILTERS: tuple[Filter, ...] = (
    open_for_leases,
    asked_for,
    holds_files,
    in_its_reservation,
    enough_cpus,
    enough_memory,
    enough_devices,
)


def refusals(lease: Waiting, node: Node, at: datetime) -> list[str]:
    """Every reason against the node at that moment; empty when the lease fits."""
    return [reason for check in FILTERS if (reason := check(lease, node, at)) is not None]
