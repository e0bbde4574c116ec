"""P3: how fast places are decided on one core, at 6,212 devices and from 100 to 10,000 nodes.

The requests of the public trace come until they ask for 130 % of the devices, as in P1, and each placement is taken; so
the rate includes the empty cluster, the full one, and the requests that have no place any more. At every 25th decision
the same field is scored anew from nothing too: node by node on plain objects (`_plain`), and by the placer's own
arrays. Both have to give the same place. The former is the full rescoring that ours is held against: what a scheduler
does that keeps nothing between decisions. The latter says what keeping scores brings by itself. The cost of a cycle is
building the field and a placer on it, and deciding 64 requests: nodes are drawn from the trace's, and filled to two
thirds before. Five interleaved rounds; the data's folder is an argument (see `_openb`).
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from scheduler.policy.field import FieldDevice, Indices, Want
from scheduler.policy.placer import Placer, Spot
from scheduler.policy.waste import waste
from tests.benchmarks import _plain
from tests.benchmarks._measure import said
from tests.benchmarks._openb import Trace, amount, load, options
from tests.benchmarks._placers import Ledger

EVERY, BATCH = 25, 64
SIZES = (100, 300, 1_000, 3_000, 10_000)
FILLED = 2 / 3


class Anew(Placer):
    """Scores every node at every decision."""

    def best(self, want: Want, only: Indices | None = None) -> Spot | None:
        self._known.clear()
        return super().best(want, only)


def main() -> None:
    told = options("Planner speed on a public trace.", rounds=5)
    trace = load(told.data, told.pods)
    if trace is None:
        return
    print(
        f"P3, planner speed: {len(trace.nodes)} nodes, {trace.capacity // 1000} devices, one core, {told.rounds} rounds"
    )
    rounds = [stream(trace, seed) for seed in range(told.rounds)]
    own, arrays, full = ([getattr(one, name) for one in rounds] for name in ("own", "arrays", "full"))
    ratio = [mine / theirs for mine, theirs in zip(own, full, strict=True)]
    kept = [mine / theirs for mine, theirs in zip(own, arrays, strict=True)]
    compared, same = sum(one.compared for one in rounds), sum(one.same for one in rounds)
    print(
        f"  ours                     {said(own, '/s', 1)}; goal 5,000/s: {verdict(statistics.median(own) >= 5000)}"
    )
    print(f"  full rescoring           {said(full, '/s', 1)}")
    print(
        f"    ratio                  {said(ratio, 'x', 1)}; goal 40x: {verdict(statistics.median(ratio) >= 40)}"
    )
    print(f"  full rescoring, arrays   {said(arrays, '/s', 1)}")
    print(f"    ratio                  {said(kept, 'x', 1)}")
    print(
        f"  the same place in {same:,} of {compared:,} decisions compared; goal all: {verdict(same == compared)}"
    )
    costs = curve(trace, told.rounds)
    print(f"  a cycle: field and placer from nothing, and {BATCH} decisions")
    for size in SIZES:
        print(
            f"    {size:6,} nodes  {said(costs[size])}; {statistics.median(costs[size]) / size * 1e6:.2f} µs a node"
        )
    middle = {size: statistics.median(costs[size]) for size in SIZES}
    growth = math.log(middle[SIZES[-1]] / middle[SIZES[0]]) / math.log(SIZES[-1] / SIZES[0])
    steepest = max(
        math.log(middle[more] / middle[less]) / math.log(more / less) for less, more in pairwise(SIZES)
    )
    print(f"    grows with nodes to the power {growth:.2f} (steepest step {steepest:.2f}); ", end="")
    print(f"goal 1: {verdict(growth <= 1.0)}")


@dataclass
class Rates:
    """Decisions per second, ours and scored anew; how many were compared, and how many were the same by all three."""

    own: float
    arrays: float
    full: float
    compared: int
    same: int


def stream(trace: Trace, seed: int) -> Rates:
    """One pass of the requests."""
    field, typical = trace.field(seed), trace.typical()
    placer, anew, lost = Placer(field, typical), Anew(field, typical), waste(typical).tolist()
    own = arrays = full = 0.0
    decisions = compared = same = 0
    for want in trace.arrivals(seed):
        began = time.perf_counter()
        place = placer.best(want)
        if place is not None:
            field.take(want, place.node, place.devices)
        own += time.perf_counter() - began
        decisions += 1
        if decisions % EVERY == 0:
            compared += 1
            if place is not None:
                field.give_back(want, place.node, place.devices)
            began = time.perf_counter()
            again = anew.best(want)
            arrays += time.perf_counter() - began
            cluster = _plain.nodes(field)
            began = time.perf_counter()
            node = _plain.best(want, cluster, lost)
            full += time.perf_counter() - began
            alike = again is place is None or bool(again and place and again[:2] == place[:2])
            same += alike and node == (None if place is None else place.node)
            if place is not None:
                field.take(want, place.node, place.devices)
    return Rates(decisions / own, compared / arrays, compared / full, compared, same)


def curve(trace: Trace, rounds: int) -> dict[int, list[float]]:
    """Seconds of a cycle, by the number of nodes."""
    typical = trace.typical()
    clusters = {size: filled(trace, typical, size) for size in SIZES}
    costs: dict[int, list[float]] = {size: [] for size in SIZES}
    for number in range(rounds):
        for size, (cpus, memory, devices) in clusters.items():
            waiting = random.Random(f"waiting {number}").choices(trace.wants, k=BATCH)
            began = time.perf_counter()
            field = Ledger(cpus, memory, devices)
            placer = Placer(field, typical)
            for want in waiting:
                place = placer.best(want)
                if place is not None:
                    field.take(want, place.node, place.devices)
            costs[size].append(time.perf_counter() - began)
    return costs


def filled(
    trace: Trace, typical: Sequence[tuple[Want, float]], size: int
) -> tuple[list[int], list[int], list[list[FieldDevice]]]:
    """What is left on so many nodes after requests took their part: as a snapshot would tell it."""
    dice = random.Random(f"cluster {size}")
    nodes = dice.choices(trace.nodes, k=size)
    grown = replace(trace, nodes=tuple(nodes))
    field = grown.field(size)
    placer, taken = Placer(field, typical), 0
    while taken < FILLED * grown.capacity:
        want = dice.choice(trace.wants)
        place = placer.best(want)
        if place is not None:
            field.take(want, place.node, place.devices)
            taken += amount(want)
    devices = [
        [
            FieldDevice(int(model), 0, int(share))
            for model, share in zip(models, shares, strict=True)
            if model >= 0
        ]
        for models, shares in zip(field.model.tolist(), field.share.tolist(), strict=True)
    ]
    return [int(left) for left in field.cpus], [int(left) for left in field.memory], devices


def verdict(met: bool) -> str:
    return "met" if met else "missed"


if __name__ == "__main__":
    main()
