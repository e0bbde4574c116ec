"""The best place for a request: of the nodes that would do, the one that loses least for those who come next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scheduler.policy.field import WHOLE, Field, Floats, Indices, Want
from scheduler.policy.waste import waste

# In thousandths of a device, like the waste that a placement brings.
LEFT = 0.05 / 8
"""For each thousandth left on the node: fill nodes up, and keep empty ones for whoever asks for much."""
GPU_HEAVY = 500.0
"""For all of a node's devices left beyond its CPUs left, both as parts of what it has: they may never find CPUs."""
CPU_HEAVY = 100.0
"""For all of its CPUs left beyond its devices left."""
KEPT, EMPTY = 0.05, 1000.0
"""While no more than this part of the largest nodes (one at least) is empty, what using one of them up in part costs:
requests for whole nodes would wait long until one falls empty by itself."""
ROUNDED = 6
"""Decimals of a score: sums in another order must not decide between equals."""


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
        """`typical`: what usually comes, with weights; see `waste`."""
        self._field = field
        self._waste = waste(typical)
        self._known: dict[Want, _Known] = {}
        most = field.all_shares.max(initial=0.0)
        self._large = (field.all_shares == most) & (most > WHOLE)
        self._keep = max(1.0, KEPT * self._large.sum())
        self._empty = field.share.sum(axis=1) == field.all_shares
        self._seen = len(field.changes)

    def best(self, want: Want, only: Indices | None = None) -> Spot | None:
        """Where it goes, on one of the nodes `only` if some are named; None when there is no room. The first wins ties.

        Nothing is taken. Of a request for several devices the first that will do are named: which of them belong
        together is for `topology` to say.
        """
        known = self._known.get(want)
        if known is None:
            known = self._known[want] = self._scored(want)
        elif known.seen < len(self._field.changes):
            self._renew(want, known)
        score = known.score
        if only is not None:
            score = np.full(len(score), -np.inf)
            score[only] = known.score[only]
        if not len(score):
            return None
        node = self._node(want, score)
        if score[node] == -np.inf:
            return None
        return Spot(node, self._devices(want, node, int(known.device[node])), float(known.score[node]))

    def _node(self, want: Want, score: Floats) -> int:
        """The best; another than one of the last empty large ones, if there is another."""
        field, node = self._field, int(score.argmax())
        whole = field.all_shares[node]
        if not self._large[node] or field.share[node].sum() < whole or want.count * want.share == whole:
            return node
        changed = list(set(field.changes[self._seen :]))
        self._seen = len(field.changes)
        self._empty[changed] = field.share[changed].sum(axis=1) == field.all_shares[changed]
        empty = self._empty & self._large
        return node if empty.sum() > self._keep else int((score - EMPTY * empty).argmax())

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
        changed = np.array([*{*self._field.changes[known.seen :]}], dtype=np.int64)
        known.seen = len(self._field.changes)
        known.score[changed] = -np.inf
        self._judge(want, known, changed)

    def _judge(self, want: Want, known: _Known, nodes: Indices) -> None:
        """Fill in the scores of those of `nodes` that have room; higher is better."""
        field = self._field
        room = (field.cpus[nodes] >= want.cpus_millis) & (field.memory[nodes] >= want.memory_bytes)
        accepts = field.accepts(want, nodes) if want.count else None
        if accepts is not None:
            room &= accepts.sum(axis=1) >= want.count
            accepts = accepts[room]
        nodes = nodes[room]
        if not len(nodes):
            return
        cost: Floats = np.zeros(len(nodes))
        if accepts is not None:
            share = field.share[nodes].astype(np.int64)
            wasted = self._waste[np.maximum(share - want.share, 0)] - self._waste[share]
            if want.count == 1:
                wasted[~accepts] = np.inf
                device = wasted.argmin(axis=1)
                known.device[nodes] = device
                cost = wasted[np.arange(len(nodes)), device]
            else:
                chosen = accepts & (np.cumsum(accepts, axis=1) <= want.count)
                cost = (wasted * chosen).sum(axis=1)
        known.score[nodes] = np.round(-cost - self._burden(want, nodes), ROUNDED)

    def _burden(self, want: Want, nodes: Indices) -> Floats:
        """What the node as it will be is worth less for, whichever of its devices are taken."""
        field = self._field
        left = field.share[nodes].sum(axis=1) - want.count * want.share
        cpus = field.cpus[nodes] - want.cpus_millis
        surplus = left / field.all_shares[nodes] - cpus / field.all_cpus[nodes]
        burden: Floats = (
            LEFT * left + GPU_HEAVY * np.maximum(surplus, 0.0) + CPU_HEAVY * np.maximum(-surplus, 0.0)
        )
        return burden
