"""The record of what leases did, by the minute: what their verdicts can be made from again."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.model import Activity, Lease, Run, Signal
from leasing.service.signals import MINUTE
from leasing.states import LeaseState


def record(session: Session, minute: datetime) -> None:
    """Write down what every running lease showed in the minute from `minute` on, in one statement.

    To be called late in the minute after it: then a signal that was heard in both was heard without a gap. Of one that
    was not, nothing is recorded, and that is unknown.
    """
    heard = sa.and_(
        Signal.lease_id == Lease.id,
        Signal.known_since <= minute,
        Signal.minute == minute + MINUTE,
        Signal.last_peak.is_not(None),
    )
    ran = (
        sa.select(
            Lease.id,
            sa.literal(minute, sa.DateTime(timezone=True)),
            sa.func.coalesce(
                sa.func.jsonb_object_agg(Signal.kind, Signal.last_peak).filter(Signal.kind.is_not(None)),
                sa.text("'{}'::jsonb"),
            ),
        )
        .join(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
        .outerjoin(Signal, heard)
        .where(Lease.state == LeaseState.RUNNING, Run.started_at < minute + MINUTE)
        .group_by(Lease.id)
    )
    session.execute(
        insert(Activity)
        .from_select(["lease_id", "minute", "peaks"], ran)
        .on_conflict_do_nothing(index_elements=[Activity.lease_id, Activity.minute])
    )


def of(
    session: Session, lease_ids: Collection[UUID], *, begin: datetime, end: datetime
) -> dict[UUID, list[Activity]]:
    """What is recorded of those leases from `begin` until `end`, by lease, oldest first."""
    found: dict[UUID, list[Activity]] = {}
    for row in session.execute(
        sa.select(Activity)
        .where(Activity.lease_id.in_(lease_ids), Activity.minute >= begin, Activity.minute < end)
        .order_by(Activity.lease_id, Activity.minute)
    ).scalars():
        found.setdefault(row.lease_id, []).append(row)
    return found


def prune(session: Session, *, keep: timedelta, now: datetime) -> None:
    """Forget what is older than `keep`."""
    session.execute(sa.delete(Activity).where(Activity.minute < now - keep))
