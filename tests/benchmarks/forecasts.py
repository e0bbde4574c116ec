"""How far expected starts are off, by how they are made, on a public trace played through the planner.

Some of the trace's nodes and its requests, drawn with replacement and coming at random at the rate at which devices ×
seconds asked for are 0.9 times what those nodes have, are played in simulated time: the planner places, and whoever has
to wait is told, once, when it will start. A request holds what it got for its task's time in the trace, a day at most.
The trace does not tell how long people asked for: they ask for the task's time times something between 1 and 5, evenly
spread (the f-model of Mu'alem and Feitelson, Utilization, predictability, workloads, and user runtime estimates, 2001),
rounded up to a time that people like. So one request in a few leaves soon after it starts, and hardly any at its
deadline. The class of service (`qos`) stands for the environment. What is learnt of stays is learnt during the run,
from those that came before; the first tenth of the requests is not counted.

What is told is the queue played forward by how long leases stay, corrected by the part of such waits that was really
waited. Beside it stand the same before the correction, the queue played forward by deadlines alone, and two naive
forecasts: the mean wait so far of those that waited, and the wait of the one that started last.
"""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from leasing.gpus import WHOLE, GpuAsk
from scheduler.policy.behaviour import Behaviour, Stay
from scheduler.policy.forecast import as_usual, forecast
from scheduler.policy.planner import plan
from scheduler.policy.snapshot import EPOCH, Device, Held, Node, Placement, Request, Snapshot, Waiting
from tests.benchmarks._openb import PODS, Trace, load, options, rows

SPACE = UUID(int=11)
DAY = 86_400.0
MEMORY = 32 * 2**30
LIKED = [60.0 * minutes for minutes in (5, 10, 15, 30, 60, 120, 180, 240, 360, 480, 720, 1440, 2880, 7200)]
"""Times that people ask for, in seconds."""
LEARNT = 2000
WAITS = 500
FRESH = 60.0
LOAD = 0.9
WAYS = ("as told", "how leases stay", "deadlines", "mean wait so far", "last wait")


@dataclass
class Lease:
    """One of the run: what it asks for and how long it really stays."""

    waiting: Waiting
    environment: str
    stays: float
    came: float
    started: float | None = None
    told: dict[str, float] = field(default_factory=dict)
    """By each way, when it would start."""
    counted: bool = True
    foreseen: float = 0.0
    """By how leases stay, before it was corrected."""
    group: str = ""


class Play:
    """The nodes, who is on them, who waits, and what was learnt of those that left."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.now = 0.0
        self.nodes = {node.id: node for node in nodes}
        self.leases: dict[UUID, Lease] = {}
        self.queue: list[UUID] = []
        self._ends: list[tuple[float, int, UUID]] = []
        self._running: dict[UUID, Placement] = {}
        self._number = itertools.count()
        self._past: deque[Stay] = deque(maxlen=LEARNT)
        self._usual, self._learnt_at = Behaviour(), -FRESH
        self._waits: list[float] = []
        self._waited: deque[Stay] = deque(maxlen=WAITS)

    def ask(self, lease: Lease) -> None:
        self.leases[lease.waiting.id] = lease
        self.queue.append(lease.waiting.id)
        self.serve()

    def move_on(self, until: float) -> None:
        """To that time, with all that ends before it."""
        while self._ends and self._ends[0][0] <= until:
            self.end_one()
        self.now = until

    def end_one(self) -> None:
        """To when the next one ends, and serve who waits."""
        self.now, _, lease_id = heapq.heappop(self._ends)
        placement, lease = self._running.pop(lease_id), self.leases[lease_id]
        self._free(placement, 1)
        self._past.append(Stay("", lease.environment, lease.stays / lease.waiting.seconds, left=True))
        if self.queue:
            self.serve()

    def serve(self) -> None:
        """One plan; who has to wait from now on is told when it will start."""
        snapshot = Snapshot(
            list(self.nodes.values()), [self.leases[one].waiting for one in self.queue], TYPICAL,
            moment(self.now), self._held(),
        )  # fmt: skip
        made = plan(snapshot, explain=False)
        for placement in made.placements:
            lease = self.leases[placement.lease.id]
            lease.started = self.now
            self._free(placement, -1)
            self._running[placement.lease.id] = placement
            heapq.heappush(self._ends, (self.now + lease.stays, next(self._number), placement.lease.id))
            if lease.told:
                self._waits.append(self.now - lease.came)
                self._waited.append(self._wait(lease, left=True))
        self.queue = [one for one in made.order if one in made.blockers]
        if any(not self.leases[one].told for one in self.queue):
            self._tell(snapshot)

    def _tell(self, snapshot: Snapshot) -> None:
        held, nodes = self._held(), list(self.nodes.values())
        queue = [self.leases[one].waiting for one in self.queue]
        latest = forecast(snapshot, nodes, held, queue)
        usual = forecast(snapshot, nodes, as_usual(held), queue)
        waiting = [self._wait(self.leases[one], left=False) for one in self.queue if self.leases[one].told]
        patience = Behaviour([*self._waited, *waiting])
        for place, one in enumerate(self.queue):
            lease = self.leases[one]
            by_deadlines, likely = latest[one], usual[one]
            if lease.told or by_deadlines is None or likely is None:
                continue
            lease.group, lease.foreseen = ("behind" if place else "first"), seconds(min(likely, by_deadlines))
            ahead = lease.foreseen - self.now
            corrected = patience.likely_seconds("", lease.group, ahead, 0.0)
            mean = statistics.fmean(self._waits) if self._waits else 0.0
            last = self._waits[-1] if self._waits else 0.0
            values = (
                self.now + (ahead if corrected is None else corrected), lease.foreseen, seconds(by_deadlines),
                self.now + mean, self.now + last,
            )  # fmt: skip
            lease.told = dict(zip(WAYS, values, strict=True))

    def _wait(self, lease: Lease, *, left: bool) -> Stay:
        """How much of the foreseen wait it has waited."""
        foreseen = max(1.0, lease.foreseen - lease.came)
        return Stay("", lease.group, (self.now - lease.came) / foreseen, left)

    def _held(self) -> list[Held]:
        if self.now - self._learnt_at >= FRESH:
            ages = [
                Stay("", self.leases[one].environment, self._age(one) / place.lease.seconds, left=False)
                for one, place in self._running.items()
            ]
            self._usual, self._learnt_at = Behaviour([*self._past, *ages]), self.now
        at = moment(self.now)
        return [self._one_held(one, placement, at) for one, placement in self._running.items()]

    def _one_held(self, one: UUID, placement: Placement, at: datetime) -> Held:
        started = moment(self.leases[one].started or 0.0)
        deadline = placement.lease.end(started)
        likely = self._usual.likely_end(
            "", self.leases[one].environment, started=started, deadline=deadline, now=at
        )
        return replace(placement.held(deadline), likely=likely)

    def _age(self, one: UUID) -> float:
        return self.now - (self.leases[one].started or 0.0)

    def _free(self, placement: Placement, sign: int) -> None:
        node = self.nodes[placement.node.id]
        self.nodes[node.id] = node.after(placement.held(EPOCH), sign)


def moment(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def seconds(at: datetime) -> float:
    return (at - EPOCH).total_seconds()


TYPICAL: list[tuple[Request, float]] = []


def main() -> None:
    told = options("Expected starts on a public trace.", seeds=3, first=1, nodes=8, requests=1500)
    trace = load(told.data, told.pods)
    if trace is None:
        return
    classes = [row["qos"] for row in rows(told.data / PODS.format(told.pods))]
    print(
        f"Expected starts: {told.nodes} nodes, load {LOAD}, {told.requests:,} requests of {PODS.format(told.pods)}"
    )
    found: list[Lease] = []
    for seed in range(told.first, told.first + told.seeds):
        waited = [lease for lease in run(trace, classes, seed, told.nodes, told.requests) if lease.told]
        print(
            f"  seed {seed}: {len(waited)} waited, half of them {wait(waited) / 60:.0f} min and longer",
            flush=True,
        )
        found += [lease for lease in waited if lease.counted]
    if not found:
        print("  nobody had to wait")
        return
    print(f"  {'':20}median error   mean error   told too early (-) or late, mean   started by then")
    for way in WAYS:
        off = [(lease.started or 0.0) - lease.told[way] for lease in found]
        each = [abs(one) for one in off]
        by_then = sum(one <= 60 for one in off) / len(off)
        print(
            f"  {way:20}{statistics.median(each) / 60:8.1f} min {statistics.fmean(each) / 60:8.1f} min"
            f" {-statistics.fmean(off) / 60:+18.1f} min {by_then:24.1%}"
        )


def wait(leases: Sequence[Lease]) -> float:
    return statistics.median((lease.started or 0.0) - lease.came for lease in leases) if leases else 0.0


def run(trace: Trace, classes: Sequence[str], seed: int, nodes: int, requests: int) -> list[Lease]:
    """One seed: all the leases, once the last has started."""
    dice = random.Random(f"forecasts {seed}")
    # the largest ask is for eight devices of a node
    chosen = dice.sample([node for node in trace.nodes if node.devices == 8], nodes // 2)
    chosen += dice.sample([node for node in trace.nodes if node.devices < 8], nodes - nodes // 2)
    cluster = [
        Node(
            uuid5(SPACE, f"node {number}"), f"node-{number}", node.cpus_millis, node.memory_bytes,
            [
                Device(
                    uuid5(SPACE, f"{number} {index}"), f"GPU-{number}-{index}", index, str(node.model), MEMORY,
                    share_free=WHOLE, memory_free_bytes=MEMORY,
                )
                for index in range(node.devices)
            ],
        )
        for number, node in enumerate(chosen)
    ]  # fmt: skip
    room = max(node.cpus_free_millis for node in cluster), max(node.memory_free_bytes for node in cluster)
    fitting = [
        one
        for one, want in enumerate(trace.wants)
        if want.cpus_millis <= room[0] and want.memory_bytes <= room[1]
    ]
    stays = [min(max(one, 1.0), DAY) for one in trace.seconds]
    work = statistics.fmean(trace.wants[one].count * trace.wants[one].share * stays[one] for one in fitting)
    rate = LOAD * WHOLE * sum(node.devices for node in chosen) / work
    play = Play(cluster)
    for number in range(requests):
        play.move_on(play.now + dice.expovariate(rate))
        one = dice.choice(fitting)
        asked = stays[one] * dice.uniform(1, 5)
        want = trace.wants[one]
        request = Request(GpuAsk(want.count, None, want.share or WHOLE), want.cpus_millis, want.memory_bytes)
        play.ask(
            Lease(
                Waiting(
                    uuid5(SPACE, f"lease {number}"), f"lease-{number}", request, wait=True,
                    seconds=next((liked for liked in LIKED if liked >= asked), asked), arrival=number,
                ),
                classes[one], stays[one], play.now, counted=number >= requests / 10,
            )
        )  # fmt: skip
    while play.queue:
        play.end_one()
    return list(play.leases.values())


if __name__ == "__main__":
    main()
