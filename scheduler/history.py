"""Rows → how long leases stay, and wait: read anew at most once a minute, for planning must be fast."""

from __future__ import annotations

from collections.abc import Callable
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

WAIT_DAYS, WAITS = 30, 500
WAITED = sa.text("""
    SELECT told.ahead, told.told_at, told.foreseen_start,
           coalesce(told.placed_at, lease.ended_at, :now) AS seen_until, told.placed_at IS NOT NULL AS started
    FROM forecast AS told JOIN lease ON lease.id = told.lease_id
    WHERE told.told_at > :since AND told.foreseen_start > told.told_at AND lease.reservation_id IS NULL
    ORDER BY told.told_at DESC LIMIT :waits
""")

Reader = Callable[[Session, datetime], list[Stay]]
_kept: WeakKeyDictionary[sa.Engine | sa.Connection, dict[Reader, tuple[datetime, Behaviour]]] = (
    WeakKeyDictionary()
)


def behaviour(session: Session, now: datetime) -> Behaviour:
    """How long leases stay, of the time they asked for; as of the last minute."""
    return _lately(stays, session, now)


def patience(session: Session, now: datetime) -> Behaviour:
    """How long those that wait really wait, of the time that was foreseen; as of the last minute.

    Who comes first in the queue is one group, who waits behind somebody another: those may go ahead.
    """
    return _lately(waits, session, now)


def _lately(read: Reader, session: Session, now: datetime) -> Behaviour:
    kept = _kept.setdefault(session.get_bind(), {})
    if read in kept:
        read_at, found = kept[read]
        if found.known and timedelta(0) <= now - read_at < FRESH:
            return found
    found = Behaviour(read(session, now))
    kept[read] = now, found
    return found


def waits(session: Session, now: datetime) -> list[Stay]:
    """The last leases' waits. One that still waits, or gave up, waited so long at least."""
    facts = {"now": now, "since": now - timedelta(days=WAIT_DAYS), "waits": WAITS}
    return [
        Stay("", place(ahead), (until - told_at) / (foreseen - told_at), started)
        for ahead, told_at, foreseen, until, started in session.execute(WAITED, facts)
    ]


def place(ahead: int) -> str:
    """Which group one belongs to that waits behind so many."""
    return "behind" if ahead else "first"


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
