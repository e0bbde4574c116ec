"""P2: how long requests wait where leases end, by the policy that places them, on a public trace.

The cluster and the requests are P1's. A request holds what it got for its task's time in the trace (deletion less
creation), a day at most: in the trace 30 tasks of 8,152, most of them older than the trace, hold three quarters of all
device time, so that without a bound a run would tell of those alone. Requests are drawn with replacement and come at
random (Poisson), at the rate at which devices × seconds asked for are 1.0 or 1.1 times what the cluster has. A run
begins with a cluster in use: tasks drawn by the time that they stay, each with a random part of it left, are placed by
the policy under test until they ask for 95 % of the devices; what does not fit is dropped. Then come 20,000 requests.
Whenever one ends, those who wait are looked at in order of arrival, and whoever fits starts: nobody holds up the
others, as a single request for eight devices would if nobody might pass it, leaving a quarter of the cluster idle. The
run goes on until the last one has started. The figure is the mean wait of the requests, weighted by the devices asked
for; more than half of it are the few who ask for eight, so a few seeds tell little. Seeds are the same for all
policies, and ratios are of means over seeds; `--seeds 20` is the full run.
"""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.policy.field import Want
from scheduler.policy.placer import Placer
from tests.benchmarks._openb import Trace, amount, load, options
from tests.benchmarks._placers import FGD, BestFit, Ledger, Packing, Peer

GOAL = 0.9
LOADS = (1.0, 1.1)
DAY = 86_400.0
IN_USE = 0.95
OURS = "ours"
PEERS: tuple[type[Peer], ...] = (BestFit, Packing, FGD)


@dataclass
class Told:
    """What came of a run."""

    wait: float
    """Seconds, the mean weighted by devices."""
    allocated: float
    """Part of the devices, while requests came."""


class Cluster:
    """The devices, who places on them, who waits for them, and what ends when."""

    def __init__(self, ledger: Ledger, placer: Peer | Placer) -> None:
        self.now = 0.0
        self.waited = self.held = 0.0
        """Thousandths of devices × seconds: of those who waited and have started, and of those who have run."""
        self.allocated = 0
        self._ledger, self._placer = ledger, placer
        self._ends: list[tuple[float, int, Want, int, tuple[int, ...]]] = []
        self._number = itertools.count()
        self._waiting: dict[Want, deque[tuple[float, float]]] = {}

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    def ask(self, want: Want, seconds: float) -> None:
        """Start now, or wait behind those who want the same."""
        if want in self._waiting or not self.start(want, seconds):
            self._waiting.setdefault(want, deque()).append((self.now, seconds))

    def start(self, want: Want, seconds: float) -> bool:
        """Start now, if there is room."""
        place = self._placer.best(want)
        if place is None:
            return False
        self._ledger.take(want, place.node, place.devices)
        self.allocated += amount(want)
        end = (self.now + seconds, next(self._number), want, place.node, place.devices)
        heapq.heappush(self._ends, end)
        return True

    def move_on(self, until: float) -> None:
        """To that time, with all that ends before it."""
        while self._ends and self._ends[0][0] <= until:
            self.end_one()
        self._pass(until)

    def end_one(self) -> None:
        """To when the next one ends. Who waits had no room before, so only on its node is there room now."""
        at, _, want, node, devices = heapq.heappop(self._ends)
        self._pass(at)
        self._ledger.give_back(want, node, devices)
        self.allocated -= amount(want)
        while fitting := [want for want in self._waiting if self._fits(want, node)]:
            first = min(fitting, key=lambda want: self._waiting[want][0])
            since, seconds = self._waiting[first].popleft()
            if not self._waiting[first]:
                del self._waiting[first]
            self.waited += amount(first) * (self.now - since)
            assert self.start(first, seconds), "there is room on that node"

    def _pass(self, until: float) -> None:
        self.held += self.allocated * (until - self.now)
        self.now = until

    def _fits(self, want: Want, node: int) -> bool:
        ledger = self._ledger
        if ledger.cpus[node] < want.cpus_millis or ledger.memory[node] < want.memory_bytes:
            return False
        return want.count == 0 or int(ledger.accepts(want, np.array([node])).sum()) >= want.count


def main() -> None:
    told = options("Waiting on a public trace.", seeds=3, first=1, requests=20_000)
    trace = load(told.data, told.pods)
    if trace is None:
        return
    seeds = range(told.first, told.first + told.seeds)
    print(
        f"P2, waiting: {len(trace.nodes)} nodes, {trace.capacity // 1000} devices, {told.requests:,} requests of"
    )
    print(f"  openb_pod_list_{told.pods}, {len(seeds)} seeds from {told.first}; 20 are the full run")
    for offered in LOADS:
        print(f"  load {offered}        wait weighted by devices (least to most)   allocated")
        waits: dict[str, float] = {}
        for name in (*(peer.__name__ for peer in PEERS), OURS):
            runs = [run(trace, name, offered, seed, told.requests) for seed in seeds]
            each = [one.wait for one in runs]
            waits[name] = statistics.mean(each)
            print(
                f"    {name:10}    {waits[name]:8.0f} s  ({min(each):.0f} to {max(each):.0f})"
                f"          {statistics.mean(one.allocated for one in runs):.2%}",
                flush=True,
            )
        ratio = waits.pop(OURS) / min(waits.values())
        print(
            f"    ours {ratio:.3f}x the best of the others; goal {GOAL}x: {'met' if ratio <= GOAL else 'missed'}"
        )


def run(trace: Trace, name: str, offered: float, seed: int, requests: int) -> Told:
    """One policy on one seed."""
    ledger, typical = trace.field(seed), trace.typical()
    peers = {peer.__name__: peer for peer in PEERS}
    placer = peers[name](ledger, typical, seed) if name in peers else Placer(ledger, typical)
    return simulated(trace, Cluster(ledger, placer), offered, seed, requests)


def simulated(trace: Trace, cluster: Cluster, offered: float, seed: int, requests: int) -> Told:
    """Fill the cluster, let the requests come, and go on until the last of them has started."""
    seconds = [min(max(one, 1.0), DAY) for one in trace.seconds]
    work = [amount(want) * held for want, held in zip(trace.wants, seconds, strict=True)]
    fill(trace, seconds, cluster, seed)
    dice = random.Random(f"requests {seed}")
    rate = offered * trace.capacity / statistics.mean(work)
    asked = 0
    for _ in range(requests):
        cluster.move_on(cluster.now + dice.expovariate(rate))
        one = dice.randrange(len(work))
        cluster.ask(trace.wants[one], seconds[one])
        asked += amount(trace.wants[one])
    allocated = cluster.held / (cluster.now * trace.capacity)
    while cluster.waiting:
        cluster.end_one()
    return Told(cluster.waited / asked, allocated)


def fill(trace: Trace, seconds: Sequence[float], cluster: Cluster, seed: int) -> None:
    """Put on the cluster what would be found there at any moment, if there were room for all."""
    dice, asked, present = random.Random(f"in use {seed}"), 0, list(itertools.accumulate(seconds))
    while asked < IN_USE * trace.capacity:
        (one,) = dice.choices(range(len(seconds)), cum_weights=present)
        asked += amount(trace.wants[one])
        cluster.start(trace.wants[one], seconds[one] * dice.random())


if __name__ == "__main__":
    main()
