"""The outbox of warnings: what was promised to whom, in the transaction that decided it; delivered afterwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session

from leasing.model import Lease, Notice
from leasing.reclaim import Told
from leasing.schema.notice import NoticeOut
from leasing.service import events
from leasing.states import HOLDING, Channel, LeaseState, NoticeKind

NEAR = timedelta(seconds=60)
"""A warning stands for its lease as long as the deadline that it named is no further from the real one."""
AHEAD = timedelta(days=8)
"""No warning comes longer before."""
HINTS = "notices"
"""What listeners are woken by when there is something to deliver."""

_TOLD = sa.text("""
    SELECT DISTINCT ON (lease_id, kind, step_seconds)
        lease_id, kind, step_seconds, deadline, max(created_at) AS told_at
    FROM notice WHERE lease_id = ANY (CAST(:ids AS uuid[]))
    GROUP BY lease_id, kind, step_seconds, deadline HAVING bool_and(voided_at IS NULL)
    ORDER BY lease_id, kind, step_seconds, deadline DESC
""")


def told(session: Session, lease_ids: Collection[UUID]) -> Mapping[tuple[UUID, NoticeKind], dict[int, Told]]:
    """What each lease was warned of, by kind and step; a warning that is void on any channel does not count."""
    found: dict[tuple[UUID, NoticeKind], dict[int, Told]] = defaultdict(dict)
    if lease_ids:
        for lease_id, kind, step, deadline, at in session.execute(_TOLD, {"ids": [*lease_ids]}):
            found[lease_id, NoticeKind(kind)][step] = Told(at, deadline)
    return found


def promise(
    session: Session,
    lease: Lease,
    kind: NoticeKind,
    *,
    deadline: datetime,
    step: int,
    channels: Iterable[Channel],
    message: str,
    now: datetime,
) -> bool:
    """Write down a warning, a row for each channel; it is the promise, and is delivered once this is committed.

    The pages show what stands here, so theirs is delivered by that. The same again is nothing new; one that was void
    holds again. Whether anything was written. The caller holds the lease's row.
    """
    rows = [
        {
            "lease_id": lease.id,
            "kind": kind,
            "deadline": deadline,
            "step_seconds": step,
            "channel": channel,
            "message": message,
            "created_at": now,
            "retry_at": now,
            "delivered_at": now if channel is Channel.WEB else None,
        }
        for channel in channels
    ]
    new = insert(Notice).values(rows)
    written = session.execute(
        new.on_conflict_do_update(
            index_elements=["lease_id", "kind", "deadline", "step_seconds", "channel"],
            set_={"created_at": now, "retry_at": now, "voided_at": None, "attempts": 0, "message": message},
            where=Notice.voided_at.is_not(None),
        ).returning(Notice.channel)
    ).scalars()
    if not (on := sorted(written)):
        return False
    when = f" {said(deadline)}" if step else ""
    events.record(
        session,
        "lease.warned",
        f"it was warned that {message}{when} ({', '.join(on)})",
        actor="reclaimer",
        lease_id=lease.id,
        data={"kind": kind, "deadline": deadline.isoformat(), "step_seconds": step, "channels": on},
    )
    events.hint(session, HINTS)
    return True


def standing(session: Session, leases: Sequence[Lease], *, now: datetime) -> dict[UUID, list[NoticeOut]]:
    """What each of `leases` is warned of at present, the next to happen first; one statement for any number.

    Only those that have anything to be warned of are asked for.
    """
    wanted = {lease.id: lease for lease in leases if lease.state != LeaseState.ENDED and _deadlines(lease)}
    found: dict[UUID, list[NoticeOut]] = defaultdict(list)
    if not wanted:
        return found
    rows = session.execute(
        sa.select(Notice)
        .ext(distinct_on(Notice.lease_id, Notice.kind))
        .where(Notice.lease_id.in_(wanted), Notice.channel == Channel.WEB, Notice.deadline > now - NEAR)
        .order_by(Notice.lease_id, Notice.kind, Notice.deadline.desc(), Notice.step_seconds)
    ).scalars()
    for notice in rows:
        lease = wanted[notice.lease_id]
        if stands(lease, notice):
            found[lease.id].append(
                NoticeOut(
                    kind=notice.kind,
                    message=notice.message,
                    deadline=notice.deadline,
                    at=notice.created_at,
                    hint=hint(lease.name, NoticeKind(notice.kind)),
                )
            )
    for notices in found.values():
        notices.sort(key=lambda one: one.deadline)
    return found


def of_user(session: Session, user_id: UUID, *, now: datetime) -> list[tuple[Lease, NoticeOut]]:
    """All that a user's leases are warned of, the next to happen first."""
    soon = now + AHEAD
    leases = session.execute(
        sa.select(Lease).where(
            Lease.owner_id == user_id,
            Lease.state != LeaseState.ENDED,
            sa.or_(Lease.reclaim_at.is_not(None), Lease.ends_at <= soon, Lease.retain_until <= soon),
        )
    ).scalars()
    rows = list(leases)
    found = standing(session, rows, now=now)
    warned = [(lease, notice) for lease in rows for notice in found.get(lease.id, [])]
    return sorted(warned, key=lambda pair: pair[1].deadline)


def stands(lease: Lease, notice: Notice) -> bool:
    """Whether that is still to come: the lease was neither extended nor active nor given up since."""
    kind = NoticeKind(notice.kind)
    if kind is NoticeKind.DEVICE:
        return bool(lease.device_fault)
    if kind is NoticeKind.IDLE and not notice.step_seconds:  # its policy only tells
        return lease.idle_since is not None
    real = _deadlines(lease).get(kind)
    return real is not None and abs(real - notice.deadline) <= NEAR


def _deadlines(lease: Lease) -> dict[NoticeKind, datetime]:
    """What is going to happen to the lease, and when."""
    if lease.state == LeaseState.SUSPENDED:
        return {NoticeKind.RETENTION: lease.retain_until} if lease.retain_until is not None else {}
    if lease.state not in HOLDING or lease.goal is not None:
        return {}
    both = {NoticeKind.IDLE: lease.reclaim_at, NoticeKind.EXPIRY: lease.ends_at}
    return {kind: at for kind, at in both.items() if at is not None}


def prune(session: Session, *, keep: timedelta, now: datetime) -> None:
    """Forget what was told of leases that ended longer ago than `keep`; their events still say what came of it."""
    ended = sa.select(Lease.id).where(Lease.state == LeaseState.ENDED, Lease.ended_at < now - keep)
    session.execute(sa.delete(Notice).where(Notice.lease_id.in_(ended)))


def hint(name: str, kind: NoticeKind) -> str:
    """The one command that helps."""
    verb = {NoticeKind.RETENTION: "resume", NoticeKind.DEVICE: "restart"}.get(kind, "extend")
    return f"lease {verb} {name}"


def said(moment: datetime) -> str:
    """`at 2026-11-21 18:05 UTC`: for messages that leave the platform, whose readers may be anywhere."""
    return f"at {moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
