"""A world played through in simulated time: requests come, the planner places them, leases end.

It is the planner itself that decides (`scheduler.policy.planner.plan`), and it is asked only when something may follow
(see `turns`). Nothing takes time here: a lease that is placed runs, one that is preempted has left and waits again.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from uuid import UUID

from leasing.gpus import WHOLE
from scheduler.policy.filters import refusals
from scheduler.policy.planner import plan
from scheduler.policy.snapshot import (
    EPOCH,
    PROTECTED,
    Held,
    Placement,
    Plan,
    Request,
    Snapshot,
    Waiting,
    Yielding,
)
from scheduler.simulation.standings import Standings
from scheduler.simulation.turns import Kind, Turns, kind_of
from scheduler.simulation.world import Asked, Options, World

LATELY, KINDS, REFRESH = 500, 64, 100
"""What is typical is taken from so many requests, at most so many kinds of them, and anew after so many more."""
LEAVES, RENEWS, LOOK = range(3)
NOBODY = UUID(int=0)
SHORTEST_SECONDS = 60.0
"""A lease that was preempted goes on for so long at least."""


@dataclass
class Served:
    """What became of a lease. `waited` is all its time in the queue, after preemptions too."""

    asked: Asked
    started: float | None = None
    """When it first had its place."""
    ended: float | None = None
    waited: float = 0.0
    preempted: int = 0
    refused: str | None = None
    """Why it never had a place."""


@dataclass
class Played:
    """What came of a world. Device-seconds are of the time that figures are of, in all and by project."""

    served: list[Served]
    capacity: float
    used: dict[str, float]
    passes: int
    """How often the planner was asked."""


@dataclass
class _Running:
    lease: Waiting
    held: Held
    since: float
    ends: float
    number: int
    """Of its events: those of an earlier run of the same lease mean nothing any more."""


def play(world: World, options: Options) -> Played:
    """Play the world to its end, when nobody runs and nobody comes any more."""
    return _Play(world, options).played()


def moment(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


class _Play:
    def __init__(self, world: World, options: Options) -> None:
        self._world, self._options, self._policy = world, options, options.policy
        self._nodes = list(world.nodes)
        self._rows = {node.id: row for row, node in enumerate(self._nodes)}
        self._coming = deque(sorted(world.asked, key=lambda one: one.at))
        self._arrivals = {one.id: number for number, one in enumerate(self._coming)}
        self._served = {one.id: Served(one) for one in self._coming}
        self._numbers = count()
        self._events: list[tuple[float, int, int, UUID]] = []
        self._looking = float("inf")
        self._turns = Turns(world.nodes, fair_share=self._policy.fair_share, backfill=self._policy.backfill)
        self._since: dict[UUID, float] = {}
        self._left: dict[UUID, float] = {}
        """How long each has still to run."""
        self._running: dict[UUID, _Running] = {}
        self._fits: dict[Kind, bool] = {}
        self._lately: deque[Request] = deque(maxlen=LATELY)
        self._typical: list[tuple[Request, float]] = []
        self._until_typical = 0
        self._devices: defaultdict[str, float] = defaultdict(float)
        self._standings = Standings(world.weights)
        self._used: defaultdict[str, float] = defaultdict(float)
        self._passes = 0

    def played(self) -> Played:
        while self._coming or self._events:
            at = min(
                self._coming[0].at if self._coming else float("inf"),
                self._events[0][0] if self._events else float("inf"),
            )
            while self._events and self._events[0][0] <= at:
                self._happen(*heapq.heappop(self._events))
            while self._coming and self._coming[0].at <= at:
                self._come(self._coming.popleft())
            self._serve(at)
        for lease in self._turns:
            self._served[lease.id].refused = "never had room"
        span = max(0.0, self._world.ends - self._world.begins)
        return Played(list(self._served.values()), self._world.devices * span, dict(self._used), self._passes)

    def _come(self, asked: Asked) -> None:
        """Refused for good, or in the queue."""
        if asked.request.gpu.count:
            self._lately.append(asked.request)
            self._until_typical -= 1
        lease = Waiting(
            asked.id,
            asked.name,
            asked.request,
            asked.wait,
            seconds=self._options.may_run(asked),
            node_name=asked.node_name,
            labels=asked.labels,
            project=asked.project,
            priority=asked.priority,
            preemptible=asked.preemptible,
            arrival=self._arrivals[asked.id],
        )
        most, served = self._options.devices_per_user, self._served[asked.id]
        if most is not None and asked.devices and self._devices[asked.owner] + asked.devices > most:
            served.refused = "over quota"
        elif not self._fits_emptied(lease):
            served.refused = "never fits"
        else:
            self._devices[asked.owner] += asked.devices
            self._left[lease.id] = self._options.runs(asked)
            self._wait(lease, asked.at)

    def _fits_emptied(self, lease: Waiting) -> bool:
        kind = kind_of(lease)
        if kind not in self._fits:
            self._fits[kind] = any(not refusals(lease, node, EPOCH) for node in self._world.nodes)
        return self._fits[kind]

    def _wait(self, lease: Waiting, at: float) -> None:
        self._turns.join(lease)
        self._since[lease.id] = at

    def _happen(self, at: float, what: int, number: int, lease_id: UUID) -> None:
        if what == LOOK:
            self._looking = float("inf")
            return
        run = self._running.get(lease_id)
        if run is None or run.number != number:
            return
        if what == RENEWS:
            self._renew(run)
        else:
            self._leave(run, at)
            self._over(lease_id, at)

    def _renew(self, run: _Running) -> None:
        """Whoever stays beyond the time asked for has asked for as much again."""
        run.held = replace(run.held, until=run.held.until + timedelta(seconds=run.lease.seconds))
        self._follow(run)

    def _follow(self, run: _Running) -> None:
        """What happens to it next."""
        until = (run.held.until - EPOCH).total_seconds()
        what, when = (RENEWS, until) if until < run.ends else (LEAVES, run.ends)
        heapq.heappush(self._events, (when, what, run.number, run.lease.id))

    def _leave(self, run: _Running, at: float) -> None:
        """Its place is free again."""
        del self._running[run.lease.id]
        row = self._rows[run.held.node_id]
        self._nodes[row] = self._nodes[row].after(run.held, 1)
        self._turns.freed(row)
        self._standings.change(run.lease.project, -run.lease.request.worth, at)
        within = min(at, self._world.ends) - max(run.since, self._world.begins)
        devices = sum(share for _, share, _ in run.held.grants) / WHOLE
        self._used[run.lease.project] += devices * max(0.0, within)

    def _over(self, lease_id: UUID, at: float) -> None:
        served = self._served[lease_id]
        served.ended = at
        self._devices[served.asked.owner] -= served.asked.devices

    def _serve(self, at: float) -> None:
        """Ask the planner, again as long as it changes something."""
        while shown := self._turns.shown(
            self._nodes, self._standings.at(at), self._yielding(at), at, moment(at)
        ):
            self._passes += 1
            made = self._plan(shown, at)
            for placement in made.placements:
                self._start(placement, at)
            for lease, _ in made.refusals:
                self._turns.leave(lease)
                self._served[lease.id].refused = "would not wait"
                self._devices[self._served[lease.id].asked.owner] -= self._served[lease.id].asked.devices
            for preemption in made.preemptions:
                self._preempt(self._running[preemption.victim.id], at)
            if not (made.placements or made.preemptions):
                break
        self._look_again(at)

    def _look_again(self, at: float) -> None:
        """There may be something to decide at a later moment at which nothing happens."""
        when = self._turns.look_at(at)
        if when is not None and when < self._looking:
            self._looking = when
            heapq.heappush(self._events, (when, LOOK, 0, NOBODY))

    def _yielding(self, at: float) -> list[Yielding]:
        """Those that may be preempted by now."""
        if not self._policy.preemption or not self._turns:
            return []
        protected = PROTECTED.total_seconds()
        return [
            Yielding(
                run.lease.id,
                run.lease.name,
                run.held,
                run.lease.project,
                run.lease.priority,
                moment(run.since),
                run.lease.request.worth,
            )
            for run in self._running.values()
            if run.lease.preemptible and at - run.since >= protected
        ]

    def _plan(self, shown: Sequence[Waiting], at: float) -> Plan:
        if self._until_typical <= 0:
            self._typical = [(one, float(times)) for one, times in Counter(self._lately).most_common(KINDS)]
            self._until_typical = REFRESH
        return plan(
            Snapshot(
                tuple(self._nodes),
                shown,
                self._typical,
                moment(at),
                [run.held for run in self._running.values()],
                self._yielding(at),
                standings=self._standings.at(at),
            ),
            self._policy,
            explain=False,
        )

    def _start(self, placement: Placement, at: float) -> None:
        lease = placement.lease
        self._turns.leave(lease)
        served = self._served[lease.id]
        served.waited += at - self._since.pop(lease.id)
        served.started = at if served.started is None else served.started
        held = placement.held(placement.until(moment(at)))
        row = self._rows[held.node_id]
        self._nodes[row] = self._nodes[row].after(held, -1)
        self._standings.change(lease.project, lease.request.worth, at)
        run = _Running(lease, held, at, at + self._left[lease.id], next(self._numbers))
        self._running[lease.id] = run
        self._follow(run)
        if lease.preemptible and self._policy.preemption:
            heapq.heappush(self._events, (at + PROTECTED.total_seconds(), LOOK, 0, NOBODY))

    def _preempt(self, run: _Running, at: float) -> None:
        """It waits again, for what it has left; its files wait with it, so it is not refused for want of room."""
        self._leave(run, at)
        self._left[run.lease.id] = max(SHORTEST_SECONDS, run.ends - at)
        self._served[run.lease.id].preempted += 1
        self._wait(replace(run.lease, wait=True), at)
