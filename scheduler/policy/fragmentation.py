"""How much of what is left on a node the requests that usually come could not use.

After *Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent* (USENIX ATC '23).
A node's fragmentation is the expected amount of GPU that a typical request, drawn by its popularity, cannot be given
there: because the share left on a device is too small, devices are too few or of the wrong model, or CPUs are lacking.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduler.policy.field import Field, Floats, Indices, Want


class Fragmentation:
    """Of nodes as they are or would be, for fixed typical requests."""

    def __init__(self, field: Field, typical: Sequence[tuple[Want, float]]) -> None:
        """`typical`: requests with their weights; those without a device tell nothing about devices."""
        asking = [(want, weight) for want, weight in typical if want.count and weight > 0]
        total = sum(weight for _, weight in asking) or 1.0
        self._field = field
        self._weight: Floats = np.array([weight / total for _, weight in asking])
        self._cpus: Floats = np.array([float(want.cpus_millis) for want, _ in asking])
        self._share: Floats = np.array([float(want.share) for want, _ in asking])
        self._count: Floats = np.array([float(want.count) for want, _ in asking])
        # per node: one bit a device and request; models never change, so this is worked out once
        models = [
            np.ones(field.model.shape, dtype=bool)
            if want.models is None
            else np.isin(field.model, list(want.models))
            for want, _ in asking
        ]
        self._of_model = (
            np.stack(models, axis=-1) if models else np.zeros((*field.model.shape, 0), dtype=bool)
        )

    def of(self, nodes: Indices, cpus: Floats, share: Floats) -> Floats:
        """Thousandths of devices on each of `nodes` that would be of no use, were `cpus` and `share` left there."""
        usable = (share[:, :, None] >= self._share) & self._of_model[nodes]
        enough = (usable.sum(axis=1) >= self._count) & (cpus[:, None] >= self._cpus)
        given = np.einsum("nd,ndr->nr", share, usable.astype(np.float64)) * enough
        lost: Floats = share.sum(axis=1) - given @ self._weight
        return lost
