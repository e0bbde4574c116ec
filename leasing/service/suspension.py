"""Suspending a lease, which frees its devices and keeps its files, and resuming it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from leasing.errors import Conflict, Gone
from leasing.model import Lease
from leasing.service import events, quotas, transitions
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import Cause, Goal, LeaseState, SuspendReason


def suspend(session: Session, lease: Lease, *, principal: Principal, now: datetime) -> None:
    """Stop the lease and keep its files. Idempotent. The caller holds the row's lock.

    One that gives way to another, or waits to go on, is put to rest as well: then it no longer goes on by itself.
    Raises `Conflict` while there is nothing to keep yet, `Gone` once it ends.
    """
    state, message = LeaseState(lease.state), f"{principal.name} suspended it"
    if _ending(lease):
        raise _gone(lease)
    if state is LeaseState.RUNNING:
        lease.suspend_reason = SuspendReason.ASKED
        transitions.move(
            session, lease, LeaseState.STOPPING, Cause.USER,
            now=now, actor=principal.actor, message=message, goal=Goal.SUSPENDED,
        )  # fmt: skip
    elif state is LeaseState.STOPPING and lease.suspend_reason == SuspendReason.PREEMPTED:
        lease.suspend_reason, lease.message = SuspendReason.ASKED, message
        events.record(session, "lease.rested", message, actor=principal.actor, lease_id=lease.id)
    elif state is LeaseState.QUEUED and lease.kept_container is not None:
        lease.suspend_reason = SuspendReason.ASKED
        transitions.move(
            session, lease, LeaseState.SUSPENDED, Cause.USER, now=now, actor=principal.actor, message=message
        )
    elif state not in (LeaseState.STOPPING, LeaseState.SUSPENDED):
        raise Conflict(
            f"Lease {lease.name!r} is {state}: it has no files to keep yet, or is about to go on.",
            hint=f"Wait until it runs (lease why {lease.name}), or give it up: lease release {lease.name}",
        )


def resume(
    session: Session, lease: Lease, *, principal: Principal, limits: LimitSettings, now: datetime
) -> None:
    """Let a suspended lease queue again, where it stood: it keeps its arrival. Idempotent. The caller holds the lock.

    Raises `Conflict` while it is still being stopped, `Gone` once it ends or its fixed end has passed, `OverQuota`.
    """
    state = LeaseState(lease.state)
    if _ending(lease) or (lease.until is not None and lease.until <= now):
        raise _gone(lease)
    if state is LeaseState.STOPPING:
        raise Conflict(
            f"Lease {lease.name!r} is still being stopped.",
            hint=f"In a few seconds: lease resume {lease.name}",
        )
    if state is LeaseState.SUSPENDED:
        quotas.check_resume(session, lease, limits, now=now)
        queue_again(
            session, lease, Cause.USER,
            now=now, actor=principal.actor, message=f"{principal.name} resumed it",
        )  # fmt: skip


def queue_again(
    session: Session, lease: Lease, cause: Cause, *, now: datetime, actor: str, message: str
) -> None:
    """Move a suspended lease to the queue. From now on it waits for room, even if it was asked for without waiting:
    it is never refused, and its files never lost, for lack of room."""
    lease.wait, lease.attempts = True, 0
    lease.blockers, lease.expected_start, lease.latest_start = [], None, None
    transitions.move(session, lease, LeaseState.QUEUED, cause, now=now, actor=actor, message=message)


def _ending(lease: Lease) -> bool:
    return lease.state == LeaseState.ENDED or lease.goal == Goal.ENDED


def _gone(lease: Lease) -> Gone:
    said = f"is {lease.state}: {lease.message or 'it is over'}" if _ending(lease) else "had its end meanwhile"
    return Gone(f"Lease {lease.name!r} {said}.", hint=f"Start anew: lease up {lease.name}")
