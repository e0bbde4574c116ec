"""Snapshot → plan: first in, first out, whole devices.

A lease that must wait keeps everyone behind it waiting, so that a stream of small leases can never starve a large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from scheduler.policy.filters import fitting_devices, refusals
from scheduler.policy.scorers import score
from scheduler.policy.snapshot import Device, Node, Placement, Plan, Snapshot, Waiting
from scheduler.policy.topology import best_connected


def plan(snapshot: Snapshot) -> Plan:
    """Placements for the head of the queue for as long as there is room; blockers for the rest.

    A lease that would not wait is refused when it cannot have its place in this very plan.
    """
    nodes = {node.id: node for node in snapshot.nodes}
    placements: list[Placement] = []
    refused: list[tuple[Waiting, str]] = []
    blockers: dict[UUID, Sequence[str]] = {}
    ahead = 0
    for lease in snapshot.queue:
        placement = None if ahead else _place(lease, list(nodes.values()))
        if placement is not None:
            placements.append(placement)
            nodes[placement.node.id] = _without(placement)
            continue
        reasons = _reasons(lease, list(nodes.values()), ahead)
        if lease.wait:
            blockers[lease.id] = reasons
            ahead += 1
        else:
            refused.append((lease, "; ".join(reasons)))
    return Plan(placements, refused, blockers)


def _place(lease: Waiting, nodes: Sequence[Node]) -> Placement | None:
    fitting = [node for node in nodes if not refusals(lease, node)]
    if not fitting:
        return None
    node = min(fitting, key=lambda node: (score(lease, node), node.name))
    return Placement(lease, node, best_connected(fitting_devices(lease, node), lease.gpu_count, node.links))


def _without(placement: Placement) -> Node:
    """The node as it will be once the placement is there."""
    taken = {device.id for device in placement.devices}

    def after(device: Device) -> Device:
        return replace(device, free=False) if device.id in taken else device

    return replace(
        placement.node,
        cpus_free_millis=placement.node.cpus_free_millis - placement.lease.cpus_millis,
        memory_free_bytes=placement.node.memory_free_bytes - placement.lease.memory_bytes,
        devices=tuple(after(device) for device in placement.node.devices),
    )


def _reasons(lease: Waiting, nodes: Sequence[Node], ahead: int) -> list[str]:
    against = [f"{node.name}: {', '.join(why)}" for node in nodes if (why := refusals(lease, node))]
    if not nodes:
        against = ["no node has joined yet"]
    if ahead:
        waits = "1 lease is" if ahead == 1 else f"{ahead} leases are"
        return [f"{waits} ahead in the queue", *against]
    return against
