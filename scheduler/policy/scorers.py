"""Which of the nodes that would do should it be? Lower is better, compared in the order of `SCORERS`."""

from __future__ import annotations

from collections.abc import Callable

from scheduler.policy.snapshot import Node, Waiting

Scorer = Callable[[Waiting, Node], float]


def spare_devices(lease: Waiting, node: Node) -> float:
    """Whole devices that would be left: keep the nodes with many for whoever asks for many (best fit)."""
    free = sum(1 for device in node.devices if device.free and device.unfit is None)
    return free - lease.gpu_count


def spare_cpus(lease: Waiting, node: Node) -> float:
    """CPUs that would be left, for the same reason."""
    return node.cpus_free_millis - lease.cpus_millis


def spare_memory(lease: Waiting, node: Node) -> float:
    """Memory that would be left, for the same reason."""
    return node.memory_free_bytes - lease.memory_bytes


SCORERS: tuple[Scorer, ...] = (spare_devices, spare_cpus, spare_memory)


def score(lease: Waiting, node: Node) -> tuple[float, ...]:
    """The node's standing for this lease."""
    return tuple(scorer(lease, node) for scorer in SCORERS)
