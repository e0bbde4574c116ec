"""The one place that writes a lease's state, with its event in the same transaction.

`move` is for a lease in hand; `move_many` is the same for any number of them, as rows, in one statement.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session
from sqlalchemy.orm.util import identity_key

from leasing.errors import Conflict
from leasing.model import Event, Lease
from leasing.states import Cause, EndReason, Goal, LeaseState, allowed

# What else changes with the state, as SQL: the same as in `move`, and a test holds the two to each other.
_RUNS = (
    "started_at = coalesce(lease.started_at, :now), progress = '', message = '', attempts = 0, device_fault = '', "
    "ends_at = coalesce(lease.ends_at, lease.until, "
    "CAST(:now AS timestamptz) + make_interval(secs => coalesce(lease.ttl_seconds, 0))), "
    "suspended_at = NULL, suspend_reason = NULL"
)
_RESTS = "message = asked.message, progress = ''"
_ENDS = (
    "ended_at = :now, progress = '', blockers = '[]', "
    "message = coalesce(CASE lease.state WHEN 'stopping' THEN nullif(lease.message, '') END, asked.message)"
)
_ALSO = {
    LeaseState.QUEUED: "queued_at = :now, progress = ''",
    LeaseState.PLACED: "blockers = '[]'",
    LeaseState.STARTING: "blockers = '[]'",
    LeaseState.RUNNING: _RUNS,
    LeaseState.STOPPING: _RESTS,
    LeaseState.SUSPENDED: f"{_RESTS}, suspended_at = :now, blockers = '[]'",
    LeaseState.ENDED: _ENDS,
}
_MOVE = """
    WITH asked AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:messages AS text[]), CAST(:data AS jsonb[]))
        WITH ORDINALITY AS asked (id, message, data, position)
    ), moved AS (
        UPDATE lease SET state = :target, goal = :goal, reason = coalesce(:reason, lease.reason),
            claim_owner = NULL, claim_token = NULL, claim_until = NULL, retry_at = NULL, {also}
        FROM asked WHERE lease.id = asked.id AND lease.state = :source
        RETURNING lease.id, lease.reason, asked.message, asked.data, asked.position
    )
    INSERT INTO event (kind, message, actor, lease_id, from_state, to_state, reason, data)
    SELECT 'lease.' || :target, message, :actor, id, :source, :target, reason, data FROM moved ORDER BY position
"""
_MOVES = {target: sa.text(_MOVE.format(also=also)) for target, also in _ALSO.items()}


@dataclass(frozen=True)
class Move:
    """One lease's part of `move_many`."""

    lease_id: UUID
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)


def born(session: Session, lease: Lease, *, actor: str, message: str) -> None:
    """Record the first state of a new lease."""
    _write(session, lease, LeaseState.QUEUED, actor=actor, message=message)


def move(  # noqa: PLR0913 - every argument is a column of the transition's event
    session: Session,
    lease: Lease,
    target: LeaseState,
    cause: Cause,
    *,
    now: datetime,
    actor: str,
    message: str,
    reason: EndReason | None = None,
    goal: Goal | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Move `lease` along an edge of the table, and record it. The caller holds the row's lock.

    `reason` is needed for the way to an end and is kept from there on; `goal` says what a stopping lease becomes.
    Any claim on the row falls with the state it was made for, and the time of one that runs begins. Raises `Conflict`
    for an edge that is not in the table.
    """
    source = LeaseState(lease.state)
    if not allowed(source, target, cause):
        raise Conflict(f"A lease that is {source} cannot become {target} by the {cause}.")
    lease.goal = (goal or Goal.ENDED) if target is LeaseState.STOPPING else None
    lease.claim_owner = lease.claim_token = lease.claim_until = lease.retry_at = None
    if reason is not None:
        lease.reason = reason
    match target:
        case LeaseState.QUEUED:
            lease.queued_at = now
            lease.progress = ""
        case LeaseState.RUNNING:
            lease.started_at = lease.started_at or now
            lease.ends_at = lease.ends_at or lease.until or now + timedelta(seconds=lease.ttl_seconds or 0)
            lease.progress = lease.message = lease.device_fault = ""
            lease.attempts = 0
            lease.suspended_at = lease.suspend_reason = None
        case LeaseState.STOPPING:
            lease.message = message
            lease.progress = ""
        case LeaseState.SUSPENDED:
            lease.suspended_at = now
            lease.message = message
            lease.progress = ""
            lease.blockers = []
        case LeaseState.ENDED:
            lease.ended_at = now
            # one that was stopped has its reason since then; what was said of an earlier suspension is over
            lease.message = (source is LeaseState.STOPPING and lease.message) or message
            lease.progress = ""
            lease.blockers = []
        case _:
            lease.blockers = []
    _write(session, lease, target, actor=actor, message=message, source=source, data=data)


def move_many(  # noqa: PLR0913 - every argument is a column of the transition's events
    session: Session,
    moves: Sequence[Move],
    source: LeaseState,
    target: LeaseState,
    cause: Cause,
    *,
    now: datetime,
    actor: str,
    reason: EndReason | None = None,
    goal: Goal | None = None,
) -> None:
    """Move leases that are all `source` along one edge of the table, and record it: one statement for all of them.

    What `move` says holds here too; what the session knows of these leases is read anew when it is next asked for.
    Raises `Conflict` for an edge that is not in the table, and for a lease that is not `source`.
    """
    if not allowed(source, target, cause):
        raise Conflict(f"A lease that is {source} cannot become {target} by the {cause}.")
    if not moves:
        return
    session.flush()
    ids = [move.lease_id for move in moves]
    values = {
        "ids": ids,
        "messages": [move.message for move in moves],
        "data": [json.dumps(move.data) for move in moves],
        "source": source.value,
        "target": target.value,
        "goal": (goal or Goal.ENDED).value if target is LeaseState.STOPPING else None,
        "reason": None if reason is None else reason.value,
        "actor": actor,
    }
    if ":now" in _ALSO[target]:
        values["now"] = now
    written = session.execute(_MOVES[target], values)
    if (count := written.rowcount) != len(moves):  # type: ignore[attr-defined]  # a cursor's result: no rows are read
        raise Conflict(f"Only {count} of {len(moves)} leases were {source}, and so none becomes {target}.")
    for lease_id in ids:
        if (known := session.identity_map.get(identity_key(Lease, lease_id))) is not None:
            session.expire(known)


def _write(
    session: Session,
    lease: Lease,
    target: LeaseState,
    *,
    actor: str,
    message: str,
    source: LeaseState | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    lease.state = target
    session.add(
        Event(
            kind=f"lease.{target}",
            message=message,
            actor=actor,
            lease_id=lease.id,
            from_state=source,
            to_state=target,
            reason=lease.reason,
            data=data or {},
        )
    )
    session.flush()
