"""The best place for a request: of the nodes that would do, the one that loses least for those who come next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scheduler.policy.field import WHOLE, Field, Floats, Indices, Want
from scheduler.policy.fragmentation import Fragmentation

# What a thousandth of a device is worth in the score, beside one that became a fragment. Chosen on the public trace's
# seeds 1 and 2 and checked on others; see docs/decisions.
LEFT = 0.15
"""Of each device's worth left on the node: keep whole nodes for whoever asks for much."""
GPU_HEAVY = 1.5
"""Of devices left beyond the CPUs left, both as parts of what the node has: they may never find their CPUs."""
CPU_HEAVY = 0.3
"""Of CPUs left beyond the devices left."""


class Spot(NamedTuple):
    """A node and devices of it, by their places in the field, and what going there saves or costs."""

    node: int
    devices: tuple[int, ...]
    score: float


@dataclass
class _Known:
    """Scores of every node for one kind of request, good up to a length of the field's list of changes."""

    score: Floats
    device: Indices
    seen: int


class Placer:
    """Answers one request at a time. Scores are kept by kind of request, and only changed nodes are looked at again."""

    def __init__(self, field: Field, typical: Sequence[tuple[Want, float]]) -> None:
        """`typical`: what usually comes, with weights; see `Fragmentation`."""
        self._field = field
        self._fragmentation = Fragmentation(field, typical)
        self._known: dict[Want, _Known] = {}

    def best(self, want: Want, only: int | None = None) -> Spot | None:
        """Where it goes, on that node `only` if one is named; None when there is no room. Ties go to the first node.

        Nothing is taken. Of a request for several devices the first that will do are named: which of them belong
        together is for `topology` to say.
        """
        known = self._known.get(want)
        if known is None:
            known = self._known[want] = self._scored(want)
        elif known.seen < len(self._field.changes):
            self._renew(want, known)
        if not len(known.score):
            return None
        node = int(np.argmax(known.score)) if only is None else only
        if known.score[node] == -np.inf:
            return None
        return Spot(node, self._devices(want, node, int(known.device[node])), float(known.score[node]))

    def _devices(self, want: Want, node: int, chosen: int) -> tuple[int, ...]:
        if want.count == 0:
            return ()
        if want.count == 1:
            return (chosen,)
        fitting = np.flatnonzero(self._field.accepts(want, np.array([node]))[0])
        return tuple(int(index) for index in fitting[: want.count])

    def _scored(self, want: Want) -> _Known:
        nodes = len(self._field)
        known = _Known(np.full(nodes, -np.inf), np.full(nodes, -1, dtype=np.int64), len(self._field.changes))
        self._judge(want, known, np.arange(nodes))
        return known

    def _renew(self, want: Want, known: _Known) -> None:
        changed = np.unique(np.array(self._field.changes[known.seen :], dtype=np.int64))
        known.seen = len(self._field.changes)
        known.score[changed] = -np.inf
        self._judge(want, known, changed)

    def _judge(self, want: Want, known: _Known, nodes: Indices) -> None:
        """Fill in the scores of those of `nodes` that have room; higher is better."""
        field = self._field
        fits = (field.cpus[nodes] >= want.cpus_millis) & (field.memory[nodes] >= want.memory_bytes)
        accepts = field.accepts(want, nodes) if want.count else None
        if accepts is not None:
            fits &= accepts.sum(axis=1) >= want.count
            accepts = accepts[fits]
        nodes = nodes[fits]
        if not len(nodes):
            return
        before = self._fragmentation.of(nodes, field.cpus[nodes], field.share[nodes])
        if accepts is None:
            known.score[nodes] = self._score(want, nodes, field.share[nodes], before)
        elif want.count > 1:
            share = field.share[nodes].copy()
            chosen = accepts & (np.cumsum(accepts, axis=1) <= want.count)
            share[chosen] -= want.share
            known.score[nodes] = self._score(want, nodes, share, before)
        else:
            self._judge_each_device(want, known, nodes, accepts, before)

    def _judge_each_device(
        self, want: Want, known: _Known, nodes: Indices, accepts: np.ndarray, before: Floats
    ) -> None:
        """One device: which of the node's is a part of the choice. Devices that are equally full are one candidate."""
        row, device = np.nonzero(accepts)
        left = self._field.share[nodes[row], device]
        _, first = np.unique(row * (2.0 * WHOLE) + left, return_index=True)
        row, device = row[first], device[first]
        share = self._field.share[nodes[row]].copy()
        share[np.arange(len(row)), device] -= want.share
        score = self._score(want, nodes[row], share, before[row])
        order = np.lexsort((device, -score, row))
        _, first = np.unique(row[order], return_index=True)
        best = order[first]
        known.score[nodes[row[best]]] = score[best]
        known.device[nodes[row[best]]] = device[best]

    def _score(self, want: Want, nodes: Indices, share: Floats, before: Floats) -> Floats:
        """What the placement saves (negative: costs), in thousandths of devices."""
        field = self._field
        cpus = field.cpus[nodes] - want.cpus_millis
        after = self._fragmentation.of(nodes, cpus, share)
        left = share.sum(axis=1)
        balance = left / field.all_shares[nodes] - cpus / field.all_cpus[nodes]
        uneven = GPU_HEAVY * np.maximum(balance, 0.0) + CPU_HEAVY * np.maximum(-balance, 0.0)
        saved: Floats = before - after - LEFT * left / 8.0 - WHOLE * uneven
        return saved
