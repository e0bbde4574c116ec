"""Which of the free devices belong together: the best-connected set of the size asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb

from scheduler.policy.snapshot import Device

EXHAUSTIVE = 5_000
"""Up to so many sets are all looked at; beyond that a set is grown greedily from every device."""


def best_connected(
    devices: Sequence[Device], count: int, links: Mapping[frozenset[str], int]
) -> tuple[Device, ...]:
    """`count` of `devices` with the best worst link, then the best sum of links; first in order on a tie.

    The worst link comes first because collective operations run at the speed of the slowest. Devices are given in
    index order, and at least `count` of them.
    """
    if count <= 1 or not links:
        return tuple(devices[:count])

    def quality(chosen: Sequence[Device]) -> tuple[int, int]:
        pairs = [links.get(frozenset((one.uuid, other.uuid)), 0) for one, other in combinations(chosen, 2)]
        return min(pairs), sum(pairs)

    if comb(len(devices), count) <= EXHAUSTIVE:
        return max(combinations(devices, count), key=quality)  # max keeps the first of equals
    return max((_grown(start, devices, count, links) for start in devices), key=quality)


def _grown(
    start: Device, devices: Sequence[Device], count: int, links: Mapping[frozenset[str], int]
) -> tuple[Device, ...]:
    chosen = [start]
    left = [device for device in devices if device is not start]
    while len(chosen) < count:
        best = max(
            left, key=lambda device: sum(links.get(frozenset((device.uuid, one.uuid)), 0) for one in chosen)
        )
        chosen.append(best)
        left.remove(best)
    return tuple(sorted(chosen, key=lambda device: device.index))
