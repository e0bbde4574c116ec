"""The cluster as arrays: what is left on each node and device, for thousands of decisions a second."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
WHOLE = 1000
NO_DEVICE = -1


@dataclass(frozen=True)
class Want:
    """What a request needs. `share` is in thousandths of each of `count` devices, `device_memory_bytes` is of each;
    `models` are the numbers of the models that will do (None: any). Requests that want the same are equal.
    """

    cpus_millis: int
    memory_bytes: int
    count: int = 0
    share: int = 0
    device_memory_bytes: int = 0
    models: frozenset[int] | None = None

    def __post_init__(self) -> None:
        assert 1 <= self.share <= WHOLE or not self.count, "a device is asked for by its share"


@dataclass(frozen=True)
class FieldDevice:
    """A device that may be given to leases: the number of its model, and what is left of it."""

    model: int
    memory_bytes: int = 0
    share: int = WHOLE


class Field:
    """What is left, one row a node. A device that may not be used is not in it."""

    def __init__(
        self,
        cpus_millis: Sequence[int],
        memory_bytes: Sequence[int],
        devices: Sequence[Sequence[FieldDevice]],
    ) -> None:
        nodes, most = len(cpus_millis), max((len(own) for own in devices), default=0)
        self.cpus: Floats = np.array(cpus_millis, dtype=np.float64)
        self.memory: Floats = np.array(memory_bytes, dtype=np.float64)
        self.share: Floats = np.zeros((nodes, most))
        self.device_memory: Floats = np.zeros((nodes, most))
        self.model: Indices = np.full((nodes, most), NO_DEVICE, dtype=np.int64)
        for node, own in enumerate(devices):
            for index, device in enumerate(own):
                self.share[node, index] = device.share
                self.device_memory[node, index] = device.memory_bytes
                self.model[node, index] = device.model
        self.all_cpus = np.maximum(self.cpus, 1.0)
        self.all_shares = np.maximum((self.model != NO_DEVICE).sum(axis=1) * float(WHOLE), 1.0)
        self._models = int(self.model.max(initial=NO_DEVICE)) + 1
        self._chosen: dict[frozenset[int], NDArray[np.bool_]] = {}
        self.changes: list[int] = []
        """Every node that something was taken from or given back to, in order: what a cache has to look at again."""

    def __len__(self) -> int:
        return len(self.cpus)

    def change(
        self, node: int, cpus_millis: int, memory_bytes: int, devices: Iterable[tuple[int, int, int]]
    ) -> None:
        """Add to what is left of a node, and of its devices: place, share and memory of each."""
        self.cpus[node] += cpus_millis
        self.memory[node] += memory_bytes
        for device, share, memory in devices:
            self.share[node, device] += share
            self.device_memory[node, device] += memory
        self.changes.append(node)

    def accepts(self, want: Want, nodes: Indices) -> NDArray[np.bool_]:
        """Which devices (node × device) each would serve the request by themselves."""
        fits = (self.share[nodes] >= want.share) & (self.device_memory[nodes] >= want.device_memory_bytes)
        fits &= self.model[nodes] != NO_DEVICE
        if want.models is not None:
            fits &= self._among(want.models)[self.model[nodes]]
        return fits

    def _among(self, models: frozenset[int]) -> NDArray[np.bool_]:
        """For each model whether it is one of these; the last stands for no device."""
        found = self._chosen.get(models)
        if found is None:
            found = self._chosen[models] = np.isin(np.arange(self._models + 1), list(models))
            found[NO_DEVICE] = False
        return found
