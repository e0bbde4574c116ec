"""Rows → how long leases stay and what is asked for: read anew at most once a minute, for planning must be fast."""

from __future__ import annotations

from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.states import EndReason, LeaseState
from scheduler.policy.behaviour import Behaviour, Stay

DAYS, LEASES = 90, 2000
"""So far back it is looked, and at so many leases: those that came last, whether they have ended or not."""
FRESH = timedelta(minutes=1)
BY_ITSELF = (
    EndReason.COMPLETED, EndReason.RELEASED, EndReason.EXPIRED, EndReason.IDLE, EndReason.FAILED,
)  # fmt: skip
"""Of the others somebody else made an end: how long they would have stayed is not known."""

LATELY = sa.text("""
    SELECT lease.owner_id, lease.image, run.started_at, lease.ends_at,
           coalesce(run.stopped_at, lease.ended_at, :now) AS seen_until,
           lease.state = :ended AND lease.reason = ANY(:by_itself) AS left_by_itself
    FROM (
        SELECT id, owner_id, image, state, reason, ends_at, ended_at FROM lease
        WHERE created_at > :since AND started_at IS NOT NULL AND ends_at IS NOT NULL
          AND state IN (:running, :stopping, :ended)
        ORDER BY arrival DESC LIMIT :leases
    ) AS lease
    CROSS JOIN LATERAL (
        SELECT started_at, stopped_at FROM run
        WHERE run.lease_id = lease.id AND started_at IS NOT NULL
        ORDER BY generation DESC LIMIT 1
    ) AS run
    WHERE lease.ends_at > run.started_at
""")
"""Of each its last run. All of a time are taken, so that the short ones among the newest do not stand for all."""

_kept: WeakKeyDictionary[sa.Engine | sa.Connection, tuple[datetime, Behaviour]] = WeakKeyDictionary()


def behaviour(session: Session, now: datetime) -> Behaviour:
    """How long leases stay, as of the last minute."""
    database = session.get_bind()
    read_at, found = _kept.get(database, (None, Behaviour()))
    if read_at is None or not found.known or not timedelta(0) <= now - read_at < FRESH:
        found = Behaviour(stays(session, now))
        _kept[database] = now, found
    return found


def stays(session: Session, now: datetime) -> list[Stay]:
    """The last leases' stays."""
    rows = session.execute(
        LATELY,
        {
            "now": now, "since": now - timedelta(days=DAYS), "leases": LEASES, "running": LeaseState.RUNNING,
            "stopping": LeaseState.STOPPING, "ended": LeaseState.ENDED, "by_itself": list(BY_ITSELF),
        },
    )  # fmt: skip
    return [
        Stay(str(owner), image, (until - started) / (ends - started), left)
        for owner, image, started, ends, until, left in rows
    ]
