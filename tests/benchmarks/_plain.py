"""The placer's rule without arrays and without anything kept: every node is scored anew, one after the other.

What a scheduler does that scores plain objects at every decision; a yardstick for the placer's speed, and a second
opinion on its choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.policy.field import NO_DEVICE, WHOLE, Field, Floats, Want
from scheduler.policy.placer import CPU_HEAVY, EMPTY, GPU_HEAVY, KEPT, LEFT, ROUNDED


@dataclass(frozen=True)
class Device:
    model: int
    memory: float
    share: float


@dataclass(frozen=True)
class Node:
    """What is left of a node, and what it has."""

    cpus: float
    memory: float
    all_cpus: float
    all_shares: float
    devices: Sequence[Device]

    @property
    def empty(self) -> bool:
        return sum(device.share for device in self.devices) == self.all_shares


def nodes(field: Field) -> list[Node]:
    """The field's nodes as objects."""
    return [
        Node(
            float(field.cpus[row]),
            float(field.memory[row]),
            float(field.all_cpus[row]),
            float(field.all_shares[row]),
            [
                Device(int(model), float(memory), float(share))
                for model, memory, share in zip(
                    field.model[row], field.device_memory[row], field.share[row], strict=True
                )
                if model != NO_DEVICE
            ],
        )
        for row in range(len(field))
    ]


def best(want: Want, cluster: Sequence[Node], lost: Sequence[float] | Floats) -> int | None:
    """The node that the placer should choose; None where there is no room."""
    scores = [_score(want, node, lost) for node in cluster]
    found = _first(scores)
    if found is None:
        return None
    most = max(node.all_shares for node in cluster)
    large = [node.all_shares == most > WHOLE for node in cluster]
    node = cluster[found]
    if not large[found] or not node.empty or want.count * want.share == node.all_shares:
        return found
    empty = [one.empty and mine for one, mine in zip(cluster, large, strict=True)]
    if sum(empty) > max(1.0, KEPT * sum(large)):
        return found
    return _first(
        [None if score is None else score - EMPTY * kept for score, kept in zip(scores, empty, strict=True)]
    )


def _score(want: Want, node: Node, lost: Sequence[float] | Floats) -> float | None:
    if node.cpus < want.cpus_millis or node.memory < want.memory_bytes:
        return None
    costs = [
        float(lost[int(device.share) - want.share] - lost[int(device.share)])
        for device in node.devices
        if device.share >= want.share
        and device.memory >= want.device_memory_bytes
        and (want.models is None or device.model in want.models)
    ]
    if want.count and len(costs) < want.count:
        return None
    cost = 0.0 if not want.count else min(costs) if want.count == 1 else sum(costs[: want.count])
    left = sum(device.share for device in node.devices) - want.count * want.share
    surplus = left / node.all_shares - (node.cpus - want.cpus_millis) / node.all_cpus
    burden = LEFT * left + GPU_HEAVY * max(surplus, 0.0) + CPU_HEAVY * max(-surplus, 0.0)
    return round(-cost - burden, ROUNDED)


def _first(scores: Sequence[float | None]) -> int | None:
    """Place of the highest; the first of equals."""
    found: int | None = None
    highest = float("-inf")
    for place, score in enumerate(scores):
        if score is not None and score > highest:
            found, highest = place, score
    return found
