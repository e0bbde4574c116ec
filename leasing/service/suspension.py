"""Suspending a lease, which frees its devices and keeps its files, and resuming it."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from leasing.errors import Conflict, Gone
from leasing.model import Lease
from leasing.reclaim import Rule
from leasing.schema.lease import ResumeRequest
from leasing.service import durations, events, policies, quotas, transitions, workspaces
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import (
    GOES_ON_BY_ITSELF,
    Cause,
    EndReason,
    Goal,
    LeaseState,
    ReclaimAction,
    SuspendReason,
)
from leasing.units import format_duration, parse_duration

LEAST_SECONDS = 60
"""A lease that is suspended at the very end of its time has so much left, unless its time is over."""


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
    elif state is LeaseState.STOPPING and lease.suspend_reason in GOES_ON_BY_ITSELF:
        lease.suspend_reason, lease.message = SuspendReason.ASKED, message
        events.record(session, "lease.rested", message, actor=principal.actor, lease_id=lease.id)
    elif state is LeaseState.QUEUED and lease.kept_container is not None:
        lease.suspend_reason = SuspendReason.ASKED
        rest(session, lease, Cause.USER, now=now, actor=principal.actor, message=message)
    elif state not in (LeaseState.STOPPING, LeaseState.SUSPENDED):
        raise Conflict(
            f"Lease {lease.name!r} is {state}: it has no files to keep yet, or is about to go on.",
            hint=f"Wait until it runs (lease why {lease.name}), or give it up: lease release {lease.name}",
        )


def take_back(
    session: Session,
    lease: Lease,
    why: SuspendReason,
    *,
    rule: Rule,
    now: datetime,
    actor: str,
    message: str,
) -> None:
    """Take a lease back for being idle, over time, or because its node leaves. The caller holds the row's lock.

    One that has files is suspended, and what waits to go on goes back to rest; `rule` may say that what runs ends
    instead, but not for its node's leaving. Of what rests the files are kept in any case until its retention is over,
    of which it is warned. One that has never run has nothing to keep, and ends. Idempotent: whatever is being stopped,
    or rests without time, is left as it is; so is an idle one whose rule only warns.
    """
    state = LeaseState(lease.state)
    if state in (LeaseState.STOPPING, LeaseState.ENDED):
        return
    if why is SuspendReason.IDLE and rule.action is ReclaimAction.WARN:
        return
    has_files = _has_files(lease)
    if state in (LeaseState.QUEUED, LeaseState.SUSPENDED):
        if not has_files:
            transitions.move(
                session, lease, LeaseState.ENDED, Cause.RECLAIMER,
                now=now, actor=actor, message=message, reason=EndReason(why), data={"reclaimed": why},
            )  # fmt: skip
        elif why is SuspendReason.EXPIRED:
            _over_while_resting(session, lease, state, now=now, actor=actor, message=message)
        return
    ends = not has_files or (why is not SuspendReason.DRAINED and rule.action is ReclaimAction.END)
    if not ends:
        lease.suspend_reason = why
    transitions.move(
        session, lease, LeaseState.STOPPING, Cause.RECLAIMER,
        now=now, actor=actor, message=message, reason=EndReason(why) if ends else None,
        goal=Goal.ENDED if ends else Goal.SUSPENDED, data={"reclaimed": why},
    )  # fmt: skip


def _has_files(lease: Lease) -> bool:
    """Whether there is anything to keep: of an earlier run, or of the one that it has."""
    begun = lease.state in (LeaseState.STARTING, LeaseState.RUNNING) and lease.started_at is not None
    return lease.kept_container is not None or begun


def _over_while_resting(
    session: Session, lease: Lease, state: LeaseState, *, now: datetime, actor: str, message: str
) -> None:
    _no_time_left(lease)
    lease.suspend_reason = SuspendReason.EXPIRED
    if state is LeaseState.QUEUED:
        rest(session, lease, Cause.RECLAIMER, now=now, actor=actor, message=message)
    else:
        lease.message = message
        events.record(session, "lease.expired", message, actor=actor, lease_id=lease.id)


def rest(session: Session, lease: Lease, cause: Cause, *, now: datetime, actor: str, message: str) -> None:
    """Move a lease whose files are kept to rest: from now on its retention counts, as its policy says it."""
    rule = policies.effective(session, [lease])[lease.id]
    keep = timedelta(seconds=rule.retention_seconds)
    lease.retain_until = now + keep if keep else None
    lease.kept_bytes = None
    transitions.move(session, lease, LeaseState.SUSPENDED, cause, now=now, actor=actor, message=message)


def keep_time(lease: Lease, now: datetime) -> None:
    """Of a lease that has just been stopped to be suspended: what is left of its time counts from when it runs again.

    A fixed end stays. One whose time was over has none left: it gets some anew when it is resumed.
    """
    if lease.suspend_reason == SuspendReason.EXPIRED:
        _no_time_left(lease)
    elif lease.ends_at is not None:
        if lease.ttl_seconds is None:
            lease.until = lease.ends_at
        else:
            lease.ttl_seconds = max(LEAST_SECONDS, math.ceil((lease.ends_at - now).total_seconds()))
    lease.ends_at = lease.told_ends_at = None
    lease.idle_verdict, lease.idle_reason, lease.idle_since, lease.reclaim_at = None, "", None, None


def _no_time_left(lease: Lease) -> None:
    lease.ttl_seconds, lease.until, lease.ends_at = 0, None, None


def has_time(lease: Lease, now: datetime) -> bool:
    """Whether a lease that does not run has any time left."""
    return lease.until > now if lease.until is not None else bool(lease.ttl_seconds)


def retire(session: Session, lease: Lease, *, now: datetime, actor: str) -> None:
    """End a suspended lease whose retention is over: its kept files go, its workspace stays. Idempotent.

    The caller holds the row's lock, and has given the warnings that the policy promises.
    """
    if lease.state != LeaseState.SUSPENDED or lease.retain_until is None or lease.retain_until > now:
        return
    rested = format_duration((now - lease.suspended_at).total_seconds()) if lease.suspended_at else "its time"
    transitions.move(
        session, lease, LeaseState.ENDED, Cause.RECLAIMER,
        now=now, actor=actor, message=f"nobody resumed it within {rested}", reason=EndReason.EXPIRED,
    )  # fmt: skip


def retain(
    session: Session,
    lease: Lease,
    seconds: int | None,
    until: datetime | None,
    *,
    principal: Principal,
    limits: LimitSettings,
    now: datetime,
) -> None:
    """Keep a suspended lease's files for longer: for so many seconds more, or until then. The caller holds the lock.

    Raises `Conflict` if they are kept for ever already, `Invalid` past the longest retention or in the past.
    """
    if lease.retain_until is None:
        raise Conflict(
            f"The files of lease {lease.name!r} are kept for as long as nobody releases it.",
            hint=f"To let it go on: lease resume {lease.name}",
        )
    asked = until if until is not None else lease.retain_until + timedelta(seconds=seconds or 0)
    durations.check_retention(asked, limits, now)
    lease.retain_until = asked
    said = f"{principal.name} had its files kept until {asked:%Y-%m-%d %H:%M %Z}"
    events.record(session, "lease.renewed", said, actor=principal.actor, lease_id=lease.id)


def resume(
    session: Session,
    lease: Lease,
    ask: ResumeRequest | None = None,
    *,
    principal: Principal,
    limits: LimitSettings,
    now: datetime,
    how: str = "resumed it",
) -> None:
    """Let a suspended lease queue again, where it stood: it keeps its arrival. Idempotent. The caller holds the lock.
    `how` is what its event says that the principal did.

    It goes on with the time that `ask` gives it, else with what it has left, else, its time being over, with what it
    was first asked for. Raises `Conflict` while it is still being stopped, `Gone` once it ends, `Invalid` past the
    longest time allowed or in the past, `OverQuota`, and `NotAllowed` if its owner may not use its workspace any more.
    """
    state = LeaseState(lease.state)
    if _ending(lease):
        raise _gone(lease)
    if state is LeaseState.STOPPING:
        raise Conflict(
            f"Lease {lease.name!r} is still being stopped.",
            hint=f"In a few seconds: lease resume {lease.name}",
        )
    if state is LeaseState.SUSPENDED:
        workspaces.check_allowed_again(session, lease)
        _give_time(lease, ask or ResumeRequest(), limits, now)
        quotas.check_resume(session, lease, limits, now=now)
        queue_again(
            session, lease, Cause.USER,
            now=now, actor=principal.actor, message=f"{principal.name} {how}",
        )  # fmt: skip


def _give_time(lease: Lease, ask: ResumeRequest, limits: LimitSettings, now: datetime) -> None:
    if ask.until is not None:
        durations.check_end(ask.until, limits, now)
        lease.until, lease.ttl_seconds = ask.until, None
    elif ask.ttl is not None:
        lease.until, lease.ttl_seconds = None, durations.within(parse_duration(ask.ttl), limits)
    elif not has_time(lease, now):
        first = min(lease.asked_seconds or limits.default_ttl_seconds, limits.max_ttl_seconds)
        lease.until, lease.ttl_seconds = None, first


def queue_again(
    session: Session, lease: Lease, cause: Cause, *, now: datetime, actor: str, message: str
) -> None:
    """Move a suspended lease to the queue. From now on it waits for room, even if it was asked for without waiting:
    it is never refused, and its files never lost, for lack of room.

    Raises `Conflict` if another lease writes to its workspace by now: not for one that goes on by itself, which has
    been stopped in the same transaction and so still has it.
    """
    workspaces.check_free_again(session, lease)
    lease.wait, lease.attempts, lease.retain_until = True, 0, None
    lease.blockers, lease.expected_start, lease.latest_start = [], None, None
    transitions.move(session, lease, LeaseState.QUEUED, cause, now=now, actor=actor, message=message)


def _ending(lease: Lease) -> bool:
    return lease.state == LeaseState.ENDED or lease.goal == Goal.ENDED


def _gone(lease: Lease) -> Gone:
    return Gone(
        f"Lease {lease.name!r} is {lease.state}: {lease.message or 'it is over'}.",
        hint=f"Start anew: lease up {lease.name}",
    )
