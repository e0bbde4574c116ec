"""The one place that writes a lease's state, with its event in the same transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from leasing.errors import Conflict
from leasing.model import Event, Lease
from leasing.states import Cause, EndReason, Goal, LeaseState, allowed


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
    Any claim on the row falls with the state it was made for. Raises `Conflict` for an edge that is not in the table.
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
            lease.progress = ""
            lease.attempts = 0
        case LeaseState.STOPPING | LeaseState.SUSPENDED:
            lease.message = message
            lease.progress = ""
        case LeaseState.ENDED:
            lease.ended_at = now
            lease.message = lease.message or message
            lease.progress = ""
            lease.blockers = []
        case _:
            lease.blockers = []
    _write(session, lease, target, actor=actor, message=message, source=source, data=data)


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
