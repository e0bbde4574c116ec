"""Snapshot → plan: in the order of service, and nobody later delays anybody earlier.

A lease that must wait keeps those behind it waiting, so that a stream of small leases can never starve a large one.
Only who is proven not to delay anybody may go ahead (see `backfill`). A lease that would not fit even if everybody left
waits for a node or a device to come back, and keeps nobody waiting; neither does one that waits for its reservation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import islice
from uuid import UUID

from scheduler.policy.advice import advice
from scheduler.policy.backfill import Backfill
from scheduler.policy.filters import refusals
from scheduler.policy.forecast import as_usual, forecast
from scheduler.policy.ordering import in_order
from scheduler.policy.preemption import victims
from scheduler.policy.rooms import Rooms
from scheduler.policy.snapshot import Held, Placement, Plan, Preemption, Snapshot, Waiting

ADVISED = 8
"""So many of those that wait are told what would start them now."""
EXPLAINED = 200
"""So many of those that wait are told more than how many are before them."""
NODES_NAMED = 4
"""Of a large cluster so many nodes are named with their reasons; the rest are counted."""


@dataclass(frozen=True)
class Policy:
    """What an admin may switch."""

    fair_share: bool = True
    """Between projects, who has used least of their part comes first; else first come, first served in each class."""
    backfill: bool = True
    """Who delays nobody may go ahead."""
    preemption: bool = True
    """Preemptible leases are suspended for those that come before them."""


def plan(snapshot: Snapshot, policy: Policy = Policy(), *, explain: bool = True) -> Plan:
    """Placements, in the order of service as far as there is room; blockers and an expected start for the rest.

    A lease that would not wait is refused when it cannot have its place in this very plan. Without `explain` nobody is
    told why it waits and until when, which takes most of the time where many wait.
    """
    made = _Planning(snapshot, policy, explain=explain)
    queue = in_order(snapshot.queue, snapshot.standings, snapshot.at, fair_share=policy.fair_share)
    for lease in queue:
        made.serve(lease)
    return made.plan([lease.id for lease in queue])


class _Planning:
    """One plan as it is made."""

    def __init__(self, snapshot: Snapshot, policy: Policy, *, explain: bool) -> None:
        self._snapshot, self._policy, self._at = snapshot, policy, snapshot.at
        self._explain = explain
        self._rooms = Rooms(snapshot)
        self._backfill = (
            Backfill(snapshot, self._rooms) if snapshot.held is not None and policy.backfill else None
        )
        self._held: list[Held] = list(snapshot.held or ())
        self._emptied: Rooms | None = None
        self._placements: list[Placement] = []
        self._refused: list[tuple[Waiting, str]] = []
        self._waiting: list[Waiting] = []
        self._blockers: dict[UUID, Sequence[str]] = {}
        self._promised: list[Waiting] = []

    def serve(self, lease: Waiting) -> None:
        """Its place, if it may have one now; else why not."""
        placement = None
        if not self._waiting or lease.reservation_id is not None:
            placement = self._rooms.place(lease, self._at)
        elif self._backfill is not None:
            placement = self._backfill.place(lease, self._waiting, self._held)
        if placement is not None:
            self._placements.append(placement)
            self._held.append(placement.held(placement.until(self._at)))
            return
        if not lease.wait:
            self._refused.append((lease, "; ".join(self._reasons(lease))))
            return
        self._blockers[lease.id] = self._reasons(lease) if self._explain else []
        if lease.reservation_id is not None:
            self._promised.append(lease)
        elif self._snapshot.held is None or self._fits_emptied(lease):
            self._waiting.append(lease)

    def plan(self, order: Sequence[UUID]) -> Plan:
        if self._snapshot.held is None:
            return Plan(self._placements, self._refused, self._blockers, order=order)
        expected, latest = self._starts() if self._explain else ({}, {})
        if self._backfill is not None and self._explain:
            self._advise(self._backfill, latest)
        return Plan(
            self._placements,
            self._refused,
            self._blockers,
            expected,
            latest,
            self._preemptions() if self._policy.preemption else (),
            order,
        )

    def _starts(self) -> tuple[dict[UUID, datetime | None], dict[UUID, datetime | None]]:
        """When each that waits will probably start, and when at the latest."""
        latest = forecast(self._snapshot, self._rooms.nodes, self._held, self._waiting)
        usual = forecast(self._snapshot, self._rooms.nodes, as_usual(self._held), self._waiting)
        expected = {
            one: min(moment, start) if (moment := usual[one]) and start else moment or start
            for one, start in latest.items()
        }
        for reservation in {lease.reservation_id for lease in self._promised}:
            under = [lease for lease in self._promised if lease.reservation_id == reservation]
            begins = forecast(self._snapshot, self._rooms.nodes, self._held, under)
            latest |= begins
            expected |= begins
        return expected, latest

    def _advise(self, backfill: Backfill, starts: Mapping[UUID, datetime | None]) -> None:
        for position, lease in enumerate(self._waiting[:ADVISED]):
            ahead = self._waiting[:position]
            said = advice(
                lease,
                self._rooms.nodes,
                at=self._at,
                first_start=min((start for one in ahead if (start := starts[one.id])), default=None),
                would_start=partial(backfill.would_start, ahead=ahead, held=self._held),
            )
            if said is not None:
                self._blockers[lease.id] = [*self._blockers[lease.id], said]

    def _preemptions(self) -> list[Preemption]:
        """For the first that waits only: whoever comes next is looked at when that one has its place."""
        if not self._waiting or not self._snapshot.yielding:
            return []
        head = self._waiting[0]
        leaving = [one for one in self._held if one.until <= self._at]
        nodes = {node.id: node for node in self._rooms.nodes}
        for one in leaving:
            if one.node_id in nodes:
                nodes[one.node_id] = nodes[one.node_id].after(one, 1)
        if any(not refusals(head, node, self._at) for node in nodes.values()):
            return []  # its place is being made already
        found = victims(head, list(nodes.values()), self._snapshot.yielding, self._at)
        return [Preemption(victim, head) for victim in found]

    def _fits_emptied(self, lease: Waiting) -> bool:
        """Whether there would be room, had everybody left and nobody booked."""
        if self._emptied is None:
            unbooked = [replace(node, reserved=()) for node in self._snapshot.nodes]
            self._emptied = Rooms(replace(self._snapshot, nodes=unbooked))
            for one in self._snapshot.held or ():
                self._emptied.give_back(one)
        return self._emptied.has_room(lease, self._at)

    def _reasons(self, lease: Waiting) -> list[str]:
        ahead = self._waiting if lease.reservation_id is None else []
        if len(ahead) >= EXPLAINED:
            return [f"{len(ahead)} leases are ahead in the queue"]
        before = [_ahead(lease, ahead)] if ahead else []
        if ahead and self._rooms.has_room(lease, self._at):
            return [*before, "there is room for it now, but then some of them would start later"]
        nodes = self._rooms.nodes
        refused = (
            f"{node.name}: {', '.join(why)}" for node in nodes if (why := refusals(lease, node, self._at))
        )
        named = list(islice(refused, NODES_NAMED + 1))
        if len(named) > NODES_NAMED and len(nodes) > NODES_NAMED + 1:
            # it has room on none of them, and a sentence for each takes long
            named[-1] = f"{len(nodes) - NODES_NAMED} more nodes have no room either"
        return [*before, *(named or ["no node has joined yet"])]


def _ahead(lease: Waiting, ahead: Sequence[Waiting]) -> str:
    waits = "1 lease is" if len(ahead) == 1 else f"{len(ahead)} leases are"
    later = [one for one in ahead if one.arrival > lease.arrival]
    if not later:
        return f"{waits} ahead in the queue"
    above = sum((one.priority, lease.preemptible) > (lease.priority, one.preemptible) for one in later)
    because = [
        f"{above} of a higher class" if above else "",
        f"{len(later) - above} of projects that have used less of their part" if len(later) > above else "",
    ]
    return f"{waits} ahead in the queue; of those that came later, {' and '.join(filter(None, because))}"
