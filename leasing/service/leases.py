"""What people do with leases that they have: find, renew, release."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.access import Action
from leasing.errors import Gone, NotFound, NotFree
from leasing.model import Lease
from leasing.schema.keep import KeepRequest
from leasing.schema.lease import RenewRequest
from leasing.service import (
    calendar,
    durations,
    events,
    extending,
    keeps,
    quotas,
    standings,
    suspension,
    transitions,
)
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import STOPPABLE, Cause, EndReason, Goal, LeaseState
from leasing.units import format_duration, parse_duration


def find(session: Session, ref: str, *, principal: Principal, action: Action, lock: bool = False) -> Lease:
    """The lease with that id, or the live one of that name, or the newest ended one of that name.

    Raises `NotFound`, and `NotAllowed` if the principal may not do with it what `action` says. `lock` holds the row for
    the transaction.
    """
    try:
        condition = Lease.id == UUID(ref)
    except ValueError:
        condition = Lease.name == ref
    statement = (
        sa.select(Lease)
        .where(condition)
        .order_by((Lease.state == LeaseState.ENDED).asc(), Lease.created_at.desc())
        .limit(1)
    )
    if lock:
        statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    lease = session.execute(statement).scalar_one_or_none()
    if lease is None:
        raise NotFound(f"There is no lease {ref[:60]!r}.", hint="lease ls --all shows yours.")
    standings.check(session, lease, action, principal=principal)
    return lease


def release(session: Session, lease: Lease, *, principal: Principal, now: datetime) -> None:
    """Give the lease back. Idempotent: one that is ending or over is left as it is. The caller holds the row's lock."""
    state = LeaseState(lease.state)
    own = lease.owner_id == principal.user_id
    message = f"{principal.name} released it"
    if state in STOPPABLE:
        reason = EndReason.RELEASED if own else EndReason.REVOKED
        transitions.move(
            session, lease, LeaseState.STOPPING, Cause.USER,
            now=now, actor=principal.actor, message=message, reason=reason, goal=Goal.ENDED,
        )  # fmt: skip
    elif state is LeaseState.STOPPING and lease.goal == Goal.SUSPENDED:
        lease.goal, lease.reason, lease.message = Goal.ENDED, EndReason.RELEASED, message
        events.record(session, "lease.released", message, actor=principal.actor, lease_id=lease.id)
    elif state in (LeaseState.QUEUED, LeaseState.SUSPENDED):
        reason = EndReason.CANCELLED if lease.started_at is None else EndReason.RELEASED
        transitions.move(
            session, lease, LeaseState.ENDED, Cause.USER,
            now=now, actor=principal.actor, message=message, reason=reason,
        )  # fmt: skip


def renew(
    session: Session,
    lease: Lease,
    ask: RenewRequest,
    *,
    principal: Principal,
    limits: LimitSettings,
    now: datetime,
) -> None:
    """Move the deadline; of a suspended lease, how long its files are kept. The caller holds the row's lock.

    An `ask` that names no time is one for the platform's usual step. One that looks idle is kept for as long as it is
    extended by, or it would be taken back all the same. Raises `Gone` once the lease ends, `Invalid` past the longest
    time allowed or in the past, `NotFree` past the start of a reservation of something that it has, `OverQuota`.
    """
    state = LeaseState(lease.state)
    if state in (LeaseState.STOPPING, LeaseState.ENDED):
        raise Gone(
            f"Lease {lease.name!r} is {state}: {lease.message or 'it is over'}.",
            hint=f"Start anew: lease up {lease.name}",
        )
    quiet = state is LeaseState.RUNNING and lease.idle_since is not None
    usual = ask.ttl is None and ask.until is None
    if usual:
        step = extending.usual_step(lease, limits, now)
        if quiet and lease.ends_at is not None and lease.ends_at - now >= timedelta(seconds=step):
            keep = extending.usual_keep(lease, limits, now)
            _keep(session, lease, keep, principal=principal, now=now)
            return
        ask = RenewRequest(ttl=f"{step}s")
    if state is LeaseState.SUSPENDED:
        more = parse_duration(ask.ttl) if ask.ttl is not None else None
        suspension.retain(session, lease, more, ask.until, principal=principal, limits=limits, now=now)
        return
    ends_at = lease.ends_at or lease.until or now
    if lease.ends_at is None and ask.ttl is not None and lease.ttl_seconds is not None:
        seconds = durations.within(lease.ttl_seconds + parse_duration(ask.ttl), limits)
        _check_calendar(session, lease, now + timedelta(seconds=seconds), now)
        quotas.check_renewal(session, lease, now + timedelta(seconds=seconds), limits, now=now)
        lease.ttl_seconds = seconds
        said = f"to run {format_duration(lease.ttl_seconds)}"
    else:
        if ask.until is not None:
            ends_at = ask.until
        else:
            ends_at += timedelta(seconds=parse_duration(ask.ttl or ""))
        durations.check_end(ends_at, limits, now)
        _check_calendar(session, lease, ends_at, now)
        quotas.check_renewal(session, lease, ends_at, limits, now=now)
        if lease.ends_at is not None:
            lease.ends_at = ends_at
        else:
            lease.until, lease.ttl_seconds = ends_at, None
        said = f"to end at {ends_at:%Y-%m-%d %H:%M %Z}"
    events.record(
        session,
        "lease.renewed",
        f"{principal.name} extended it {said}",
        actor=principal.actor,
        lease_id=lease.id,
    )
    if quiet:
        if usual:
            keep = extending.usual_keep(lease, limits, now)
        else:
            keep = parse_duration(ask.ttl) if ask.ttl is not None else int((ends_at - now).total_seconds())
        _keep(session, lease, max(1, keep), principal=principal, now=now)


def _keep(session: Session, lease: Lease, seconds: int, *, principal: Principal, now: datetime) -> None:
    """It is not taken back as idle before that time is over."""
    keeps.ask(session, lease, KeepRequest(ttl=f"{seconds}s"), principal=principal, now=now)
    lease.reclaim_at = None


def _check_calendar(session: Session, lease: Lease, until: datetime, now: datetime) -> None:
    """Raises `NotFree` if what the lease has is reserved for others before then."""
    calendar.lock_to_hold(session)
    reserved = calendar.in_the_way(session, lease, until, now=now)
    if reserved is None:
        return
    possible = calendar.floor(reserved.starts_at)
    more = possible > calendar.deadline(lease, now)
    raise NotFree(
        f"What lease {lease.name!r} has is reserved from {calendar.said(possible)} on, for {reserved.name}.",
        hint=f"Until then it can have it: lease extend {lease.name} --until {calendar.stamp(possible)}"
        if more
        else f"It has all the time that there is; for another place: lease up --gpu {lease.gpu}",
    )
