"""Closing runs whose containers nobody can ask any more: they ran for as long as somebody has seen it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.model import Allocation, Counting, Event, Lease, Run, RunSample
from leasing.states import LeaseState


def last_seen(session: Session, run_ids: Iterable[UUID]) -> dict[UUID, datetime]:
    """When each was last known to run: by a comparison with its engine, a sample, or its start.

    Without those that never started. From its lease's being stopped on, a comparison says nothing of it any more.
    """
    stopping = (
        sa.select(sa.func.max(Event.at))
        .where(
            Event.lease_id == Run.lease_id,
            Event.to_state == LeaseState.STOPPING,
            Lease.state == LeaseState.STOPPING,
        )
        .scalar_subquery()
    )
    compared = sa.case((Counting.compared_at.is_not(None), sa.func.least(Counting.compared_at, stopping)))
    return dict(
        session.execute(
            sa.select(Run.id, sa.func.greatest(compared, RunSample.at, Run.started_at))
            .join(Lease, Lease.id == Run.lease_id)
            .outerjoin(Counting, Counting.node_id == Run.node_id)
            .outerjoin(RunSample, RunSample.run_id == Run.id)
            .where(Run.id.in_(list(run_ids)), Run.started_at.is_not(None))
        ).all()
    )


def close(session: Session, runs: Sequence[Run], *, now: datetime) -> None:
    """Give back what they hold. The caller holds their leases' locks, and moves the leases afterwards."""
    seen = last_seen(session, [run.id for run in runs])
    for run in runs:
        run.stopped_at = run.stopped_at or min(now, seen.get(run.id, now))
        run.released_at, run.missing_since = now, None
    session.flush()  # the node's usage before its devices', as everyone locks them
    session.execute(
        sa.update(Allocation)
        .where(Allocation.run_id.in_([run.id for run in runs]), Allocation.released_at.is_(None))
        .values(released_at=now)
    )
