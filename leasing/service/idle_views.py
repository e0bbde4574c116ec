"""How idle leases are, as people see it: the verdict, and what each signal says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.model import Lease, Run, SignalKind
from leasing.reading import Reading, Signalled
from leasing.schema.lease import IdleOut, SignalOut
from leasing.service import signals
from leasing.states import LeaseState


def brief(lease: Lease, now: datetime) -> IdleOut | None:
    """The verdict without what each signal says; None for one that is not judged."""
    if lease.state != LeaseState.RUNNING or lease.idle_verdict is None:
        return None
    seconds = (now - lease.idle_since).total_seconds() if lease.idle_since is not None else 0.0
    return IdleOut(
        verdict=lease.idle_verdict,
        seconds=max(0.0, seconds),
        reason=lease.idle_reason,
        since=lease.idle_since,
    )


def in_full(session: Session, lease: Lease, *, now: datetime) -> IdleOut | None:
    """The verdict, and what each signal says now."""
    found = brief(lease, now)
    if found is None:
        return None
    run = session.execute(
        sa.select(Run).where(Run.lease_id == lease.id, Run.released_at.is_(None))
    ).scalar_one_or_none()
    readings = signals.of(session, [lease.id]).get(lease.id, {})
    limits = signals.thresholds(session, [lease.id])[lease.id]
    none = signals.inapplicable(lease, run, readings)
    found.signals = [_signal(kind, readings.get(kind), limits, none.get(kind), now) for kind in SignalKind]
    return found


def states(
    session: Session, leases: Sequence[Lease], *, now: datetime
) -> dict[tuple[UUID, SignalKind], Signalled]:
    """What each signal of running leases says now."""
    readings = signals.of(session, [lease.id for lease in leases])
    runs = {
        run.lease_id: run
        for run in session.execute(
            sa.select(Run).where(Run.lease_id.in_([lease.id for lease in leases]), Run.released_at.is_(None))
        ).scalars()
    }
    found = {}
    for lease in leases:
        heard = readings.get(lease.id, {})
        none = signals.inapplicable(lease, runs.get(lease.id), heard)
        for kind in SignalKind:
            found[lease.id, kind] = _state(heard.get(kind), kind in none, now)
    return found


def _state(reading: Reading | None, inapplicable: bool, now: datetime) -> Signalled:
    if inapplicable:
        return Signalled.INAPPLICABLE
    return reading.at(now)[0] if reading is not None else Signalled.UNKNOWN


def _signal(
    kind: SignalKind,
    reading: Reading | None,
    limits: Mapping[str, float],
    inapplicable: str | None,
    now: datetime,
) -> SignalOut:
    if inapplicable is not None:
        return SignalOut(kind=kind, state=Signalled.INAPPLICABLE, threshold=limits[kind], reason=inapplicable)
    if reading is None:
        return SignalOut(kind=kind, state=Signalled.UNKNOWN, threshold=limits[kind], reason="never heard")
    state, since = reading.at(now)
    if state is Signalled.UNKNOWN:
        return SignalOut(
            kind=kind, state=state, threshold=limits[kind], active_at=reading.active_at, since=reading.seen_at,
            reason="not heard since then",
        )  # fmt: skip
    return SignalOut(
        kind=kind, state=state, value=reading.value, threshold=limits[kind], since=since, active_at=reading.active_at
    )  # fmt: skip
