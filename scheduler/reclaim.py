"""Taking back: what is over time, what is idle, and what was kept for long enough; never without the warnings promised.

`scheduler.policy.ladder` decides; here its facts are read under each lease's own lock, and what it says is written, the
warnings into the outbox.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import inf
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import Sessions, now
from leasing.model import Event, Lease, Policy
from leasing.reclaim import NEVER, Rule, Told
from leasing.service import contacts, notices, policies, suspension
from leasing.settings.notify import NotifySettings
from leasing.settings.scheduler import SchedulerSettings
from leasing.states import (
    RESTING,
    STOPPABLE,
    Channel,
    LeaseState,
    NoticeKind,
    ReclaimAction,
    SuspendReason,
    Verdict,
)
from leasing.units import format_duration
from scheduler.clock import MAX_JUMP, Clock
from scheduler.policy import ladder
from scheduler.policy.ladder import Rung
from scheduler.reconcile import verdicts

log = logging.getLogger(__name__)
ACTOR = "reclaimer"
AT_ONCE = 20
"""Leases looked at in one transaction: their warnings are promised as soon as that is committed."""
_time_over = sa.func.coalesce(Lease.ends_at, Lease.until)


@dataclass(frozen=True)
class _Facts:
    """What is known of a lease beside its own row, at one moment."""

    rule: Rule
    told: Mapping[NoticeKind, Mapping[int, Told]]
    contacts: frozenset[Channel]
    now: datetime
    frozen_until: datetime | None
    lead: timedelta


class Reclaimer:
    """Any number may run beside each other. Each pass decides from rows read under their own locks, never from a list
    made earlier."""

    def __init__(
        self,
        sessions: Sessions,
        clock: Clock,
        settings: SchedulerSettings,
        notify: NotifySettings | None = None,
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._lead = timedelta(seconds=5 * settings.reclaim_seconds)
        self._notify = notify or NotifySettings()

    def run_once(self) -> None:
        with self._sessions() as session:
            moment = now(session)
            due = _candidates(session, self._notify, moment)
        self._clock.watch(moment)
        for first in range(0, len(due), AT_ONCE):
            with self._sessions.begin() as session:
                self._look(session, due[first : first + AT_ONCE], now(session))

    def _frozen_until(self, rule: Rule, moment: datetime) -> datetime | None:
        """One warning step after the clock's last jump, if that is still to come."""
        return self._clock.thaw(timedelta(seconds=max(rule.warnings or Rule().warnings)), moment)

    def _look(self, session: Session, ids: Collection[UUID], moment: datetime) -> None:
        leases = list(
            session.execute(
                sa.select(Lease)
                .where(Lease.id.in_(ids))
                .order_by(Lease.id)
                .with_for_update(skip_locked=True, key_share=True)
            ).scalars()
        )
        rules = policies.effective(session, leases)
        told = notices.told(session, [lease.id for lease in leases])
        channels = contacts.channels_of(session, {lease.owner_id for lease in leases}, self._notify)
        for lease in leases:
            rule = rules[lease.id]
            facts = _Facts(
                rule,
                {kind: told.get((lease.id, kind), {}) for kind in NoticeKind},
                channels[lease.owner_id],
                moment,
                self._frozen_until(rule, moment),
                self._lead,
            )
            if lease.state in RESTING:
                self._resting(session, lease, facts)
            elif lease.state in STOPPABLE and not _count_down(session, lease, facts):
                _climb(session, lease, facts)
                _device(session, lease, facts)

    def _resting(self, session: Session, lease: Lease, facts: _Facts) -> None:
        """One that waits or is suspended: its time may be over, and its files are not kept for ever."""
        until = lease.ends_at or lease.until
        if until is not None and until <= facts.now and facts.frozen_until is None:
            message = "its time was over"
            if lease.state == LeaseState.QUEUED:
                message += (
                    " before there was room" if lease.kept_container is None else " before it could go on"
                )
            else:
                message += " while it rested"
            _take_back(session, lease, SuspendReason.EXPIRED, facts, message)
        if lease.state != LeaseState.SUSPENDED or lease.retain_until is None:
            return
        kept = lease.retain_until - (lease.suspended_at or lease.created_at)
        steps = self._notify.retention_steps(kept.total_seconds()) or facts.rule.warnings
        rung = ladder.climb(
            lease.retain_until, steps, facts.told[NoticeKind.RETENTION], facts.now,
            frozen_until=facts.frozen_until, lead=facts.lead,
        )  # fmt: skip
        if rung.over:
            suspension.retire(session, lease, now=facts.now, actor=ACTOR)
            return
        if rung.due or rung.warned:
            lease.retain_until = rung.deadline
        _warn(
            session,
            lease,
            NoticeKind.RETENTION,
            rung,
            facts,
            f"{lease.name} ends and its kept files are removed",
        )


def _candidates(session: Session, notify: NotifySettings, moment: datetime) -> list[UUID]:
    """Leases that may have anything due, read without a lock: what is true of them is read again under it."""
    said = session.execute(sa.select(Policy.warnings).where(Policy.warnings.is_not(None))).scalars()
    steps = [step for warnings in said for step in warnings or ()]
    horizon = moment + timedelta(seconds=max((*steps, *Rule().warnings))) + MAX_JUMP
    files = max(horizon, moment + timedelta(seconds=max(notify.retention_steps(inf), default=0)) + MAX_JUMP)
    rows = list(
        session.execute(
            sa.select(Lease).where(
                sa.or_(
                    sa.and_(Lease.state.in_(STOPPABLE), _time_over <= horizon),
                    sa.and_(
                        Lease.state == LeaseState.RUNNING,
                        sa.or_(Lease.idle_since.is_not(None), Lease.reclaim_at.is_not(None)),
                    ),
                    sa.and_(Lease.state.in_(RESTING), _time_over <= moment),
                    sa.and_(Lease.state == LeaseState.SUSPENDED, Lease.retain_until <= files),
                    sa.and_(Lease.state == LeaseState.RUNNING, Lease.device_fault != ""),
                )
            )
        ).scalars()
    )
    rules = policies.effective(session, rows)
    return [lease.id for lease in rows if _near(lease, rules[lease.id], horizon)]


def _near(lease: Lease, rule: Rule, until: datetime) -> bool:
    """Whether anything may be due before then."""
    if lease.device_fault:
        return True
    if lease.state == LeaseState.RUNNING and lease.reclaim_at is None and lease.idle_since is not None:
        window = timedelta(seconds=rule.window_seconds)
        ends = lease.ends_at is not None and lease.ends_at <= until
        return ends or (rule.window_seconds != NEVER and lease.idle_since + window <= until)
    return True


def _count_down(session: Session, lease: Lease, facts: _Facts) -> bool:
    """Warn that its time will be over; whether it was taken back because that has come."""
    if lease.ends_at is None:
        return False
    rung = ladder.count_down(
        lease.ends_at, facts.rule.warnings, facts.told[NoticeKind.EXPIRY], facts.now,
        since=lease.started_at or lease.created_at, frozen_until=facts.frozen_until, lead=facts.lead,
    )  # fmt: skip
    if rung.over:
        unwarned = bool(facts.rule.warnings) and not rung.warned
        _take_back(session, lease, SuspendReason.EXPIRED, facts, "its time was over", keep=unwarned)
        return True
    if lease.state == LeaseState.RUNNING:
        if facts.frozen_until is not None and (rung.due or rung.warned):
            lease.ends_at = rung.deadline  # a warning of any other moment than the lease's end is void
        what = f"{lease.name} runs out of time and is {_done(facts.rule)}"
        _warn(session, lease, NoticeKind.EXPIRY, rung, facts, what)
    return False


def _climb(session: Session, lease: Lease, facts: _Facts) -> None:
    """Warn that it will be taken back as idle, or take it back."""
    rule = facts.rule
    if lease.state != LeaseState.RUNNING or lease.idle_since is None or rule.window_seconds == NEVER:
        lease.reclaim_at = None
        return
    target = lease.idle_since + timedelta(seconds=rule.window_seconds)
    if rule.action is ReclaimAction.WARN:
        lease.reclaim_at = None
        if facts.now >= target:
            rung = Rung(target, due=(0,))
            _warn(
                session,
                lease,
                NoticeKind.IDLE,
                rung,
                facts,
                f"{lease.name} does nothing ({lease.idle_reason})",
            )
        return
    rung = ladder.climb(
        target, rule.warnings, facts.told[NoticeKind.IDLE], facts.now,
        hours=rule.hours, frozen_until=facts.frozen_until, lead=facts.lead,
    )  # fmt: skip
    if lease.ends_at is not None and lease.ends_at <= rung.deadline:
        lease.reclaim_at = None  # its time is over sooner, and it is warned of that
        return
    if rung.over:
        judged = verdicts.again(session, lease, rule, now=facts.now)
        if judged.verdict is not Verdict.IDLE or judged.since is None or judged.since > lease.idle_since:
            log.info("not taken back, not idle any more lease=%s reason=%s", lease.id, judged.reason)
            lease.idle_verdict, lease.idle_reason, lease.idle_since = (
                judged.verdict,
                judged.reason,
                judged.since,
            )
            lease.reclaim_at = None
            return
        allowed = format_duration(rule.window_seconds)
        message = f"reclaimed as idle: {lease.idle_reason} (allowed: {allowed})"
        _take_back(session, lease, SuspendReason.IDLE, facts, message)
        return
    reclaim_at = rung.deadline if rung.due or rung.warned else None
    if lease.reclaim_at != reclaim_at:
        lease.reclaim_at = reclaim_at
    what = f"{lease.name} is idle ({lease.idle_reason}) and is {_done(rule)}"
    _warn(session, lease, NoticeKind.IDLE, rung, facts, what)


def _device(session: Session, lease: Lease, facts: _Facts) -> None:
    """Tell, once for each fault, that it has lost a device; nothing is taken back for that."""
    if lease.state != LeaseState.RUNNING or not lease.device_fault:
        return
    since = session.execute(
        sa.select(sa.func.max(Event.at)).where(Event.lease_id == lease.id, Event.kind == "lease.device_fault")
    ).scalar_one_or_none()
    told = facts.told[NoticeKind.DEVICE].get(0)
    if since is not None and (told is None or told.deadline < since):
        rung = Rung(since, due=(0,))
        _warn(session, lease, NoticeKind.DEVICE, rung, facts, f"{lease.name}: {lease.device_fault}")


def _take_back(
    session: Session, lease: Lease, why: SuspendReason, facts: _Facts, message: str, *, keep: bool = False
) -> None:
    """`keep`: nobody was told that its files go, so they stay until they were, whatever its policy says."""
    rule = facts.rule
    if keep and rule.action is ReclaimAction.END:
        rule, message = replace(rule, action=ReclaimAction.SUSPEND), f"{message}, of which nobody was warned"
    suspension.take_back(session, lease, why, rule=rule, now=facts.now, actor=ACTOR, message=message)


def _warn(session: Session, lease: Lease, kind: NoticeKind, rung: Rung, facts: _Facts, message: str) -> None:
    channels = facts.contacts | {Channel.WEB}
    if lease.state == LeaseState.RUNNING:
        channels |= {Channel.SHELL}
    for step in rung.due:
        notices.promise(
            session, lease, kind, deadline=rung.deadline, step=step, channels=sorted(channels), message=message,
            now=facts.now,
        )  # fmt: skip


def _done(rule: Rule) -> str:
    return "ended, its files with it" if rule.action is ReclaimAction.END else "suspended"
