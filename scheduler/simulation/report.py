"""What came of a world under a policy, and who is affected by another one. Waits are in seconds."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scheduler.simulation.play import Played, Served
from scheduler.simulation.world import World

MOST = 10
"""So many leases and owners are named."""


@dataclass(frozen=True)
class Waits:
    """Of the leases that had a place; `weighted` is the mean by the devices asked for."""

    mean: float = 0.0
    median: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    weighted: float = 0.0


@dataclass(frozen=True)
class OfProject:
    """Its part of the device-time used, and its waits."""

    part: float
    leases: int
    waits: Waits


@dataclass(frozen=True)
class Told:
    """Of one policy. `utilisation` is the part of all device-time in which devices were leased."""

    leases: int
    waits: Waits
    utilisation: float
    preemptions: int
    refused: dict[str, int]
    projects: dict[str, OfProject]


@dataclass(frozen=True)
class Affected:
    """A lease or an owner, with what it waits as it is and as tried; None: it has no place."""

    name: str
    owner: str
    as_it_is: float | None
    as_tried: float | None

    @property
    def change(self) -> float:
        """Longer waits are positive; a place lost or won counts for more than any wait."""
        if self.as_it_is is None or self.as_tried is None:
            return (
                0.0
                if self.as_it_is is self.as_tried
                else math.copysign(math.inf, (self.as_tried is None) - 0.5)
            )
        return self.as_tried - self.as_it_is


def told(world: World, played: Played) -> Told:
    """Of the leases asked for in the time that figures are of."""
    within = _within(world, played)
    used = sum(played.used.values())
    projects: dict[str, list[Served]] = defaultdict(list)
    for one in within:
        projects[one.asked.project].append(one)
    return Told(
        leases=len(within),
        waits=_waits(within),
        utilisation=used / played.capacity if played.capacity else 0.0,
        preemptions=sum(one.preempted for one in played.served),
        refused=dict(Counter(one.refused for one in within if one.refused is not None)),
        projects={
            name: OfProject(played.used.get(name, 0.0) / used if used else 0.0, len(some), _waits(some))
            for name, some in sorted(projects.items())
        },
    )


def recorded(world: World) -> Waits | None:
    """What leases really waited, as far as the record says: how far the simulation can be trusted."""
    known = [
        (one.waited_seconds, one.devices)
        for one in world.asked
        if one.waited_seconds is not None and world.begins <= one.at <= world.ends
    ]
    return _of(known) if known else None


def leases(world: World, before: Played, after: Played) -> list[Affected]:
    """Those whose wait changes most."""
    tried = {one.asked.id: one for one in after.served}
    return _most(
        Affected(one.asked.name, one.asked.owner, _wait(one), _wait(tried[one.asked.id]))
        for one in _within(world, before)
    )


def owners(world: World, before: Played, after: Played) -> list[Affected]:
    """Those whose leases' waits, all together, change most; of leases that have a place both times."""
    tried = {one.asked.id: one for one in after.served}
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for one in _within(world, before):
        then, now = _wait(one), _wait(tried[one.asked.id])
        if then is not None and now is not None:
            sums[one.asked.owner][0] += then
            sums[one.asked.owner][1] += now
    return _most(Affected(owner, owner, then, now) for owner, (then, now) in sums.items())


def as_json(value: Any) -> Any:
    """A figure for programs."""
    return asdict(value) if not isinstance(value, list) else [asdict(one) for one in value]


def _most(found: Any) -> list[Affected]:
    changed = [one for one in found if one.change]
    return sorted(changed, key=lambda one: (-abs(one.change), one.name))[:MOST]


def _within(world: World, played: Played) -> list[Served]:
    return [one for one in played.served if world.begins <= one.asked.at <= world.ends]


def _wait(one: Served) -> float | None:
    return one.waited if one.started is not None else None


def _waits(some: Sequence[Served]) -> Waits:
    return _of([(one.waited, one.asked.devices) for one in some if one.started is not None])


def _of(waits: Sequence[tuple[float, float]]) -> Waits:
    if not waits:
        return Waits()
    ordered = sorted(seconds for seconds, _ in waits)
    devices = sum(weight for _, weight in waits)
    return Waits(
        mean=statistics.fmean(ordered),
        median=statistics.median(ordered),
        p90=_quantile(ordered, 0.9),
        p99=_quantile(ordered, 0.99),
        weighted=sum(seconds * weight for seconds, weight in waits) / devices if devices else 0.0,
    )


def _quantile(ordered: Sequence[float], part: float) -> float:
    """The least wait that so many waited no longer than."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]
