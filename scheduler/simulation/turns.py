"""When is there something for the planner to decide, and about whom? It is asked only then.

The head of the queue is looked at as soon as there may be room for it. Those behind it may go ahead only if that delays
nobody, which takes long to find out where many run and wait: they are looked at together, and not all the time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from scheduler.policy.filters import refusals
from scheduler.policy.ordering import in_order
from scheduler.policy.preemption import gives_way, victims
from scheduler.policy.snapshot import Node, Request, Standing, Waiting, Yielding

PAUSE_SECONDS = 60.0
"""Those behind the head are looked at so seldom at most, on a cluster where that is quick."""
QUICK = 2_000
"""Devices times leases that wait: with more of them the pause is as many times longer."""
WINDOW = 64
"""So many of those that wait are looked at together."""
Kind = tuple[Request, str | None, tuple[tuple[str, str], ...]]
"""Leases of one kind have room on the same nodes."""


def kind_of(lease: Waiting) -> Kind:
    return lease.request, lease.node_name, tuple(sorted(lease.labels.items()))


class Turns:
    """The queue of a simulation."""

    def __init__(self, nodes: Sequence[Node], *, fair_share: bool, backfill: bool) -> None:
        self._fair_share, self._backfill = fair_share, backfill
        self._devices = sum(len(node.devices) for node in nodes)
        self._kinds: dict[Kind, dict[UUID, Waiting]] = defaultdict(dict)
        self._ids: set[UUID] = set()
        self._impatient = False
        self._looked = float("-inf")
        """When those behind the head were looked at last."""
        self._changed = False
        """Whether since then anybody came or left."""
        self._order: list[Waiting] = []
        self._ordered_at = float("-inf")
        self._freed: list[int] = []
        """Nodes on which somebody left, in order."""
        self._full: dict[Kind, int] = {}
        """Kinds without room, up to a length of that list."""
        self._kept: tuple[UUID, int, int] | None = None
        """For whom nobody could be preempted, when so much had been freed and so many were preemptible."""

    def __iter__(self) -> Iterator[Waiting]:
        return (lease for members in self._kinds.values() for lease in members.values())

    def __contains__(self, lease: UUID) -> bool:
        return lease in self._ids

    def __bool__(self) -> bool:
        return bool(self._ids)

    @property
    def pause(self) -> float:
        """Until those behind the head are looked at again, in seconds."""
        return PAUSE_SECONDS * max(1.0, self._devices * min(len(self._ids), WINDOW) / QUICK)

    def join(self, lease: Waiting) -> None:
        self._kinds[kind_of(lease)][lease.id] = lease
        self._ids.add(lease.id)
        self._changed = True
        self._impatient |= not lease.wait

    def leave(self, lease: Waiting) -> None:
        members = self._kinds[kind_of(lease)]
        del members[lease.id]
        self._ids.remove(lease.id)
        if not members:
            del self._kinds[kind_of(lease)]

    def freed(self, row: int) -> None:
        """A lease has left that node."""
        self._freed.append(row)
        self._changed = True

    def shown(
        self,
        nodes: Sequence[Node],
        standings: Mapping[str, Standing],
        yielding: Sequence[Yielding],
        at: float,
        moment: datetime,
    ) -> list[Waiting]:
        """Those about whom something may be decided now, with everybody before them; mostly nobody."""
        if not self._ids:
            return []
        able = [kind for kind in self._kinds if self._room(kind, nodes, moment)]
        if not (able or yielding or self._impatient):
            self._changed = False
            return []
        order = self._ordered(standings, at, moment)
        if self._impatient:
            self._impatient = False
            return order[: max(place for place, lease in enumerate(order) if not lease.wait) + 1]
        if kind_of(order[0]) in able:
            return order[:1]
        if len(self._ids) > 1 and self._backfill and self._changed and at >= self._looked + self.pause:
            self._looked, self._changed = at, False
            order = [one for one in order if one.id in self]
            last = max((place for place, one in enumerate(order[:WINDOW]) if kind_of(one) in able), default=0)
            if last:
                return order[: last + 1]
        return order[:1] if self._preempts(order[0], nodes, yielding, moment) else []

    def look_at(self, at: float) -> float | None:
        """When to look again although nothing happens; None: when something does."""
        if not (self._backfill and self._changed and len(self._ids) > 1):
            return None
        when = self._looked + self.pause
        return when if when > at else at + self.pause

    def _ordered(self, standings: Mapping[str, Standing], at: float, moment: datetime) -> list[Waiting]:
        """In the order of service; of a long queue, in that of a short while ago."""
        short = len(self._ids) <= WINDOW
        if (
            short
            or self._impatient
            or at >= self._ordered_at + PAUSE_SECONDS
            or self._order[0].id not in self
        ):
            self._order = in_order(list(self), standings, moment, fair_share=self._fair_share)
            self._ordered_at = at
        return self._order

    def _room(self, kind: Kind, nodes: Sequence[Node], moment: datetime) -> bool:
        """Whether there is room for such a lease: where there was none, only where somebody has left since."""
        seen = self._full.get(kind)
        rows = range(len(nodes)) if seen is None else set(self._freed[seen:])
        lease = next(iter(self._kinds[kind].values()))
        if any(not refusals(lease, nodes[row], moment) for row in rows):
            self._full.pop(kind, None)
            return True
        self._full[kind] = len(self._freed)
        return False

    def _preempts(
        self, lease: Waiting, nodes: Sequence[Node], yielding: Sequence[Yielding], moment: datetime
    ) -> bool:
        """Whether somebody would be preempted for it."""
        able = sum(gives_way(one, lease) for one in yielding)
        now = (lease.id, len(self._freed), able)
        if not able or now == self._kept:
            return False
        self._kept = now
        return bool(victims(lease, nodes, yielding, moment))
