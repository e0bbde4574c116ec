"""What each lease's endpoint has carried, counted in memory and added to its row every few seconds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert

from leasing.database import Sessions, now
from leasing.model import SignalKind, Traffic
from leasing.service import signals
from leasing.service.signals import Observation


@dataclass
class Count:
    """Since the last flush. `moved` is whether anything did: an open but silent connection is no activity."""

    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def moved(self) -> bool:
        return bool(self.requests or self.bytes_in or self.bytes_out)


class Counters:
    """Counts on the event loop's thread; `take` hands them over to be written."""

    def __init__(self) -> None:
        self._counts: dict[UUID, Count] = defaultdict(Count)

    def of(self, lease_id: UUID) -> Count:
        return self._counts[lease_id]

    def take(self) -> dict[UUID, Count]:
        taken, self._counts = self._counts, defaultdict(Count)
        return dict(taken)

    def give_back(self, counts: dict[UUID, Count]) -> None:
        """What could not be written is kept for the next time."""
        for lease_id, count in counts.items():
            kept = self._counts[lease_id]
            kept.requests += count.requests
            kept.bytes_in += count.bytes_in
            kept.bytes_out += count.bytes_out


def write(sessions: Sessions, counts: dict[UUID, Count], running: Collection[UUID]) -> None:
    """Add the counts, and observe every running endpoint: one that carried nothing is quiet, not unknown."""
    moved = {lease_id: count for lease_id, count in counts.items() if count.moved}
    with sessions.begin() as session:
        if moved:
            new = insert(Traffic).values(
                [
                    {
                        "lease_id": lease_id,
                        "requests_total": count.requests,
                        "bytes_in_total": count.bytes_in,
                        "bytes_out_total": count.bytes_out,
                    }
                    for lease_id, count in sorted(moved.items())
                ]
            )
            session.execute(
                new.on_conflict_do_update(
                    index_elements=[Traffic.lease_id],
                    set_={
                        "requests_total": Traffic.requests_total + new.excluded.requests_total,
                        "bytes_in_total": Traffic.bytes_in_total + new.excluded.bytes_in_total,
                        "bytes_out_total": Traffic.bytes_out_total + new.excluded.bytes_out_total,
                        "updated_at": new.excluded.updated_at,
                    },
                )
            )
        signals.observe(
            session,
            [
                Observation(
                    lease_id,
                    SignalKind.ENDPOINT,
                    float(moved[lease_id].requests) if lease_id in moved else 0.0,
                )
                for lease_id in {*running, *moved}
            ],
            now=now(session),
        )
