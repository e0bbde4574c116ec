"""What others place by, as the published simulator of the FGD paper defines it, for comparison with our own placer.

*Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent* (USENIX ATC '23),
https://github.com/hkust-adsl/kubernetes-scheduler-simulator: scores are whole numbers from 0 to 100 there, and it is
the rounding that makes ties. CPUs, memory and the device's model are hard filters for all. Where a score says nothing
of devices, a share goes to the device with the least left that suffices, a whole device is the first that is free.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.policy.field import WHOLE, Field, FieldDevice, Floats, Indices, Want
from scheduler.policy.placer import Spot

LARGEST_CPUS, LARGEST_SHARES = 128_000.0, 8.0 * WHOLE
"""What the simulator measures what is left against: the largest node that it knows."""
NO_ROOM = -np.inf
KINDS = 10
"""Requests of one kind, to Clustering: a share of a device, or one to nine whole ones."""


class Ledger(Field):
    """A field that knows of each node how many requests of each kind are on it."""

    def __init__(
        self,
        cpus_millis: Sequence[int],
        memory_bytes: Sequence[int],
        devices: Sequence[Sequence[FieldDevice]],
    ) -> None:
        super().__init__(cpus_millis, memory_bytes, devices)
        self.kinds: Indices = np.zeros((len(cpus_millis), KINDS), dtype=np.int64)

    def take(self, want: Want, node: int, devices: Sequence[int]) -> None:
        """Note that the request goes there."""
        self._move(want, node, devices, -1)

    def give_back(self, want: Want, node: int, devices: Sequence[int]) -> None:
        """Note that it has left."""
        self._move(want, node, devices, 1)

    def _move(self, want: Want, node: int, devices: Sequence[int], sign: int) -> None:
        parts = [(device, sign * want.share, sign * want.device_memory_bytes) for device in devices]
        self.change(node, sign * want.cpus_millis, sign * want.memory_bytes, parts)
        if want.count:
            self.kinds[node, kind(want)] -= sign


def kind(want: Want) -> int:
    return want.count if want.share == WHOLE else 0


@dataclass
class Known:
    """A score for each node, right up to a length of the field's list of changes."""

    score: Floats
    seen: int


class Peer(ABC):
    """The best node by a score; scores are kept, and only those of changed nodes worked out anew."""

    def __init__(self, field: Ledger, typical: Sequence[tuple[Want, float]], seed: int = 0) -> None:
        self.field, self.typical, self.dice = field, typical, random.Random(f"placer {seed}")
        self._known: dict[Want, Known] = {}

    def best(self, want: Want) -> Spot | None:
        """Where it goes; None where there is no room. Nothing is taken."""
        known = self._known.get(want)
        if known is None:
            known = self._known[want] = Known(np.full(len(self.field), NO_ROOM), len(self.field.changes))
            self._renew(want, known, np.arange(len(self.field)))
        elif known.seen < len(self.field.changes):
            changed = np.array(sorted(set(self.field.changes[known.seen :])), dtype=np.int64)
            known.seen = len(self.field.changes)
            self._renew(want, known, changed)
        node = self.pick(known.score)
        if node is None:
            return None
        return Spot(node, self.devices(want, node) if want.count else (), float(known.score[node]))

    def pick(self, score: Floats) -> int | None:
        """The first of the best."""
        node = int(np.argmax(score))
        return None if score[node] == NO_ROOM else node

    @abstractmethod
    def score(self, want: Want, nodes: Indices) -> Floats:
        """Of nodes that have room; more is better."""

    def devices(self, want: Want, node: int) -> tuple[int, ...]:
        """Those with the least left that suffices, the first among equals."""
        fitting = np.flatnonzero(self.field.accepts(want, np.array([node]))[0])
        return tuple(sorted(fitting.tolist(), key=lambda index: self.field.share[node, index])[: want.count])

    def _renew(self, want: Want, known: Known, nodes: Indices) -> None:
        known.score[nodes] = NO_ROOM
        field = self.field
        room = (field.cpus[nodes] >= want.cpus_millis) & (field.memory[nodes] >= want.memory_bytes)
        if want.count:
            room &= field.accepts(want, nodes).sum(axis=1) >= want.count
        nodes = nodes[room]
        if len(nodes):
            known.score[nodes] = self.score(want, nodes)


class Random(Peer):
    """Any node that has room, and any device of it."""

    def score(self, want: Want, nodes: Indices) -> Floats:
        return np.zeros(len(nodes))

    def pick(self, score: Floats) -> int | None:
        room = np.flatnonzero(score > NO_ROOM)
        return int(self.dice.choice(room)) if len(room) else None

    def devices(self, want: Want, node: int) -> tuple[int, ...]:
        fitting = np.flatnonzero(self.field.accepts(want, np.array([node]))[0])
        return tuple(self.dice.sample(fitting.tolist(), want.count))


class DotProd(Peer):
    """The smallest product of what is asked for and what is left (the alignment of Tetris, turned round)."""

    def score(self, want: Want, nodes: Indices) -> Floats:
        cpus = self.field.cpus[nodes] / LARGEST_CPUS * (want.cpus_millis / LARGEST_CPUS)
        share = (
            self.field.share[nodes].sum(axis=1) / LARGEST_SHARES * (want.count * want.share / LARGEST_SHARES)
        )
        score: Floats = np.trunc(100.0 * (1.0 - (cpus + share) / 2.0))
        return score


class Clustering(Peer):
    """Requests of one kind together; then idle nodes; then others. Within each, the least devices left."""

    def score(self, want: Want, nodes: Indices) -> Floats:
        if not want.count:
            return np.zeros(len(nodes))
        kinds = self.field.kinds[nodes]
        several, same = (kinds > 0).sum(axis=1), kinds[:, kind(want)] > 0
        level = np.where(same, np.where(several == 1, 75.0, 50.0), np.where(several == 0, 25.0, 0.0))
        used = LARGEST_SHARES - self.field.share[nodes].sum(axis=1)
        score: Floats = level + np.floor(25.0 * used / LARGEST_SHARES)
        return score


class Packing(Peer):
    """Devices that are shared already, with the least left; then free ones of nodes in use; then idle nodes."""

    def score(self, want: Want, nodes: Indices) -> Floats:
        if not want.count:
            return np.zeros(len(nodes))
        share = self.field.share[nodes]
        free = (share == WHOLE).sum(axis=1)
        tight = np.sort(np.where(self.field.accepts(want, nodes), share, np.inf), axis=1)[:, : want.count]
        wholly = (tight == WHOLE).sum(axis=1)
        shared = np.maximum(100.0 - np.floor(np.floor(tight / 10.0).sum(axis=1) / 10.0), 50.0)
        in_use = np.where(wholly > 0, np.maximum(50.0 - wholly, 33.0), shared)
        idle = free * WHOLE == self.field.all_shares[nodes]
        score: Floats = np.where(idle, np.maximum(33.0 - free, free), in_use)
        return score


class BestFit(Peer):
    """The least CPUs and devices left after, each against the largest node, in equal parts."""

    def score(self, want: Want, nodes: Indices) -> Floats:
        cpus = (self.field.cpus[nodes] - want.cpus_millis) / LARGEST_CPUS
        share = (self.field.share[nodes].sum(axis=1) - want.count * want.share) / LARGEST_SHARES
        score: Floats = np.trunc(100.0 * (1.0 - 0.5 * cpus - 0.5 * share))
        return score


class FGD(Peer):
    """The least growth of fragmentation: of what is left on the node, the part that typical requests cannot use."""

    def __init__(self, field: Ledger, typical: Sequence[tuple[Want, float]], seed: int = 0) -> None:
        super().__init__(field, typical, seed)
        # one without a device is satisfied by none: it makes all that is left a fragment, wherever it goes
        asking = [(want, weight) for want, weight in typical if want.count]
        self._weight: Floats = np.array([weight for _, weight in asking])
        self._cpus: Floats = np.array([float(want.cpus_millis) for want, _ in asking])
        self._share: Floats = np.array([float(want.share) for want, _ in asking])
        self._count: Indices = np.array([want.count for want, _ in asking])
        own = field.model[:, :1]  # a node of the trace has devices of one model
        models = [
            np.ones_like(own, dtype=bool) if want.models is None else np.isin(own, list(want.models))
            for want, _ in asking
        ]
        self._of_model = np.concatenate(models, axis=1)

    def score(self, want: Want, nodes: Indices) -> Floats:
        row, _, score = self._candidates(want, nodes)
        best = np.full(len(nodes), NO_ROOM)
        np.maximum.at(best, row, score)
        return best

    def devices(self, want: Want, node: int) -> tuple[int, ...]:
        if want.count > 1:
            return super().devices(want, node)
        _, device, score = self._candidates(want, np.array([node]))
        return (int(device[np.argmax(score)]),)

    def _candidates(self, want: Want, nodes: Indices) -> tuple[Indices, Indices, Floats]:
        """Each way to place the request on each node: place of the node in `nodes`, device, score."""
        field = self.field
        accepts = field.accepts(want, nodes)
        if want.count == 1:
            row, device = np.nonzero(accepts)
            share = field.share[nodes[row]]
            share[np.arange(len(row)), device] -= want.share
        else:
            row, device = np.arange(len(nodes)), np.zeros(len(nodes), dtype=np.int64)
            share = field.share[nodes]
            share[accepts & (np.cumsum(accepts, axis=1) <= want.count)] -= (
                want.share
            )  # none, where none is wanted
        cpus = field.cpus[nodes]
        before = self._fragments(nodes, cpus, field.share[nodes])[row]
        after = self._fragments(nodes[row], cpus[row] - want.cpus_millis, share)
        return row, device, np.trunc(100.0 / (1.0 + np.exp((after - before) / WHOLE)))

    def _fragments(self, nodes: Indices, cpus: Floats, share: Floats) -> Floats:
        usable = share[:, :, None] >= self._share
        satisfied = (
            (usable.sum(axis=1) >= self._count) & (cpus[:, None] >= self._cpus) & self._of_model[nodes]
        )
        served = np.einsum("nd,ndr->nr", share, usable, dtype=np.float64) * satisfied
        fragments: Floats = share.sum(axis=1) - served @ self._weight
        return fragments


PEERS: tuple[type[Peer], ...] = (Random, DotProd, Clustering, Packing, BestFit, FGD)
