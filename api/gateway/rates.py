"""Calls a second, of each endpoint that has a limit."""

from __future__ import annotations

import math
from collections.abc import Collection
from uuid import UUID

from leasing.schema.endpoint import EndpointOptions


class Rates:
    """A bucket for each lease: it holds `burst` calls and fills by `rate` a second."""

    def __init__(self) -> None:
        self._left: dict[UUID, tuple[float, float]] = {}

    def wait(self, lease_id: UUID, options: EndpointOptions, at: float) -> float:
        """0 if the call may go on, and it is counted; else seconds until one may. `at` is a steady clock's."""
        rate = options.rate
        if rate is None:
            return 0.0
        most = float(options.burst if options.burst is not None else max(1, math.floor(rate)))
        left, then = self._left.get(lease_id, (most, at))
        left = min(most, left + (at - then) * rate)
        if left >= 1:
            self._left[lease_id] = (left - 1, at)
            return 0.0
        self._left[lease_id] = (left, at)
        return (1 - left) / rate

    def forget(self, running: Collection[UUID]) -> None:
        """Those of other leases than these."""
        for lease_id in self._left.keys() - set(running):
            del self._left[lease_id]
