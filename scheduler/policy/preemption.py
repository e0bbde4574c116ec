"""Who gives way to a lease that has no room: those that agreed to it, as few and as little disturbed as possible."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from scheduler.policy.filters import refusals
from scheduler.policy.snapshot import Node, Waiting, Yielding


def gives_way(victim: Yielding, lease: Waiting) -> bool:
    """Whether the lease comes before it: of a higher class, or of the same and itself not preemptible."""
    return victim.priority < lease.priority or (victim.priority == lease.priority and not lease.preemptible)


def victims(
    lease: Waiting,
    nodes: Sequence[Node],
    yielding: Sequence[Yielding],
    at: datetime,
) -> list[Yielding]:
    """Who is to be suspended so that the lease has room on some node; empty if nobody's leaving would do.

    All of one node, none of them in vain, the lowest classes first; then whose leaving wastes least work: devices times
    the time since their last start.
    """
    able = [one for one in yielding if gives_way(one, lease) and at - one.since >= one.protected]
    chosen = [
        found
        for node in nodes
        if (found := _on_node(lease, node, [one for one in able if one.held.node_id == node.id], at))
    ]
    return min(chosen, key=lambda some: _loss(some, at), default=[])


def _on_node(lease: Waiting, node: Node, able: Sequence[Yielding], at: datetime) -> list[Yielding]:
    taken: list[Yielding] = []
    for one in sorted(able, key=lambda one: (one.priority, _work(one, at), one.id)):
        node = node.after(one.held, 1)
        taken.append(one)
        if not refusals(lease, node, at):
            break
    else:
        return []
    for one in sorted(taken, key=lambda one: (-one.priority, -_work(one, at), one.id)):
        without = node.after(one.held, -1)
        if not refusals(lease, without, at):
            node = without
            taken.remove(one)
    return taken


def _work(one: Yielding, at: datetime) -> float:
    """Device-seconds that it has behind it since its last start."""
    return one.worth * (at - one.since).total_seconds()


def _loss(some: Sequence[Yielding], at: datetime) -> tuple[int, float, int]:
    return max(one.priority for one in some), sum(_work(one, at) for one in some), len(some)
