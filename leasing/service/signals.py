"""Signals of activity: what each has shown, kept so that any window can be judged without a history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.model import Signal, SignalKind

MAX_GAP = timedelta(seconds=30)
"""A signal not heard for longer was unknown in between: what is known of it begins anew."""


@dataclass(frozen=True)
class Observation:
    """One reading of one signal. `active` is whether it reached its threshold."""

    lease_id: UUID
    kind: SignalKind
    value: float
    active: bool


@dataclass(frozen=True)
class Reading:
    """Known without a gap since `known_since`, last heard at `seen_at`, last active at `active_at`."""

    known_since: datetime
    seen_at: datetime
    active_at: datetime | None


def observe(session: Session, observations: Iterable[Observation], *, now: datetime) -> None:
    """Take readings in. What cannot be measured is not passed at all: silence is what makes a signal unknown."""
    values = [
        {
            "lease_id": one.lease_id,
            "kind": one.kind,
            "value": one.value,
            "known_since": now,
            "seen_at": now,
            "active_at": now if one.active else None,
        }
        for one in sorted(observations, key=lambda one: (one.lease_id, one.kind))
    ]
    if not values:
        return
    new = insert(Signal).values(values)
    gap = Signal.seen_at < now - MAX_GAP
    session.execute(
        new.on_conflict_do_update(
            index_elements=[Signal.lease_id, Signal.kind],
            set_={
                "value": new.excluded.value,
                "known_since": sa.case((gap, new.excluded.known_since), else_=Signal.known_since),
                "seen_at": new.excluded.seen_at,
                "active_at": sa.func.coalesce(new.excluded.active_at, Signal.active_at),
            },
        )
    )


def of(session: Session, lease_ids: Collection[UUID]) -> dict[UUID, dict[str, Reading]]:
    """What is known of the signals of those leases, by kind."""
    found: dict[UUID, dict[str, Reading]] = defaultdict(dict)
    if lease_ids:
        for signal in session.execute(sa.select(Signal).where(Signal.lease_id.in_(lease_ids))).scalars():
            found[signal.lease_id][signal.kind] = Reading(
                signal.known_since, signal.seen_at, signal.active_at
            )
    return found
