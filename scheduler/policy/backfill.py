"""May a lease start although others wait before it? Only if none of them starts later for it.

Conservative backfilling (Mu'alem and Feitelson, 2001): the forecast of everybody ahead, made with and without the lease
in its place, must not get worse. Whoever is over before the first of them can start harms nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from scheduler.policy.forecast import Playing
from scheduler.policy.rooms import Rooms
from scheduler.policy.snapshot import Held, Placement, Snapshot, Waiting

TRIES = 16
"""Full comparisons a plan; each plays the queue forward."""


class Backfill:
    """Decides within one plan, for one lease after the other."""

    def __init__(self, snapshot: Snapshot, rooms: Rooms) -> None:
        self._snapshot = snapshot
        self._rooms = rooms
        self._tries = TRIES
        self._known: tuple[int, Playing, dict[UUID, datetime | None]] | None = None

    def place(self, lease: Waiting, ahead: Sequence[Waiting], held: Sequence[Held]) -> Placement | None:
        """A place for it that delays nobody `ahead`; `held` is everything placed so far. None without such a place."""
        if not self._rooms.has_room(lease, self._snapshot.at):
            return None
        before = self._before(ahead, held) if ahead else {}
        placement = self._rooms.place(lease, self._snapshot.at)
        assert placement is not None, "there was room, and nothing has been taken since"
        mine = placement.held(placement.until(self._snapshot.at))
        if self._harmless(mine, before, ahead, held):
            return placement
        self._rooms.give_back(mine)
        return None

    def would_start(self, lease: Waiting, ahead: Sequence[Waiting], held: Sequence[Held]) -> bool:
        """Whether it would have a place; none is taken."""
        placement = self.place(lease, ahead, held)
        if placement is not None:
            self._rooms.give_back(placement.held(placement.until(self._snapshot.at)))
        return placement is not None

    def _harmless(
        self,
        mine: Held,
        before: Mapping[UUID, datetime | None],
        ahead: Sequence[Waiting],
        held: Sequence[Held],
    ) -> bool:
        starts = {lease_id: start for lease_id, start in before.items() if start is not None}
        if len(starts) < len(before):
            return False  # of somebody nothing is known, so nothing can be promised
        if not starts or mine.until <= min(starts.values()):
            return True
        if not self._tries:
            return False
        self._tries -= 1
        after = Playing(self._snapshot, self._rooms.nodes, [*held, mine])
        return all((start := after.start(one)) is not None and start <= starts[one.id] for one in ahead)

    def _before(self, ahead: Sequence[Waiting], held: Sequence[Held]) -> Mapping[UUID, datetime | None]:
        """The forecast as things are. It is played on where the queue goes on, and anew when somebody was placed."""
        if self._known is None or self._known[0] != len(held) or len(self._known[2]) > len(ahead):
            self._known = (len(held), Playing(self._snapshot, self._rooms.nodes, held), {})
        _, playing, starts = self._known
        for lease in ahead[len(starts) :]:
            starts[lease.id] = playing.start(lease)
        return starts
