"""What a link in a warning does: extends the lease that it names, once, for whoever has it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import Gone, NotFound
from leasing.model import Lease, Notice, User
from leasing.schema.lease import RenewRequest
from leasing.service import leases, links, notices, suspension
from leasing.service.links import Link
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import LeaseState, NoticeKind, Role, SuspendReason

TAKEN_BACK_WITHIN = timedelta(minutes=10)
"""A lease rests so soon after its deadline if it was taken back for it."""
_NOBODY = UUID(int=0)
"""Who clicks brings no token."""


@dataclass(frozen=True)
class Offer:
    """What the link would do now. `open` is False once that is done, or can be done no more; `said` is for people."""

    name: str
    said: str
    button: str
    open: bool


def look(session: Session, key: bytes, text: str, *, now: datetime) -> Offer:
    """Raises `NotFound` for no link of ours, `Gone` for one that is too old."""
    lease, _, link = _find(session, key, text, now=now, lock=False)
    return _offer(lease, link)


def act(session: Session, key: bytes, text: str, *, limits: LimitSettings, now: datetime) -> str:
    """Do it, and say what was done. Raises what extending raises, and `Gone` where the link has done it already."""
    lease, owner, link = _find(session, key, text, now=now, lock=True)
    offer = _offer(lease, link)
    if not offer.open:
        raise Gone(offer.said, hint="Sign in to see the lease.")
    principal = Principal(owner.id, owner.name, Role.DEVELOPER, _NOBODY)
    if lease.state == LeaseState.SUSPENDED and link.kind is not NoticeKind.RETENTION:
        suspension.resume(session, lease, principal=principal, limits=limits, now=now)
        return f"{lease.name} goes on as soon as there is room."
    before = lease.ends_at
    leases.renew(session, lease, RenewRequest(), principal=principal, limits=limits, now=now)
    session.flush()
    if link.kind is NoticeKind.RETENTION:
        return f"The files of {lease.name} are kept until {_when(lease.retain_until)}."
    kept = f"{lease.name} is not taken back as idle for a while"
    if lease.ends_at == before:
        return f"{kept}, and ends {_when(lease.ends_at)}."
    ends = f"ends {_when(lease.ends_at)}"
    return f"{kept}, and {ends}." if link.kind is NoticeKind.IDLE else f"{lease.name} {ends}."


def _find(session: Session, key: bytes, text: str, *, now: datetime, lock: bool) -> tuple[Lease, User, Link]:
    link = links.read(key, text, now=now)
    statement = sa.select(Lease, User).join(User, User.id == Lease.owner_id).where(Lease.id == link.lease_id)
    if lock:
        statement = statement.with_for_update(of=Lease, key_share=True)
    found = session.execute(statement.execution_options(populate_existing=True)).one_or_none()
    if found is None or found[1].disabled_at is not None:
        raise NotFound("There is no such link.", hint="Look whether it was copied whole; or sign in.")
    lease, owner = found
    return lease, owner, link


def _offer(lease: Lease, link: Link) -> Offer:
    warned = Notice(kind=link.kind, deadline=link.deadline, step_seconds=1)
    if notices.stands(lease, warned):
        said = {
            NoticeKind.IDLE: f"{lease.name} is idle, and is taken back {_when(link.deadline)}.",
            NoticeKind.EXPIRY: f"The time of {lease.name} is over {_when(link.deadline)}.",
            NoticeKind.RETENTION: f"{lease.name} ends and its kept files go {_when(link.deadline)}.",
        }[link.kind]
        return Offer(lease.name, said, f"Keep {lease.name}", open=True)
    taken = lease.suspend_reason in (SuspendReason.IDLE, SuspendReason.EXPIRED)
    if lease.state == LeaseState.SUSPENDED and taken and lease.suspended_at is not None:
        after = lease.suspended_at - link.deadline
        if -notices.NEAR <= after <= TAKEN_BACK_WITHIN and link.kind is not NoticeKind.RETENTION:
            said = f"{lease.name} was suspended {_when(lease.suspended_at)}; its files are kept."
            return Offer(lease.name, said, f"Let {lease.name} go on", open=True)
    return Offer(lease.name, _over(lease), "", open=False)


def _over(lease: Lease) -> str:
    """Why there is nothing to do any more."""
    if lease.state == LeaseState.ENDED:
        return f"{lease.name} has ended."
    if lease.ends_at is not None and lease.state == LeaseState.RUNNING:
        return f"That was done already: {lease.name} goes on, and ends {_when(lease.ends_at)}."
    return f"That was done already: {lease.name} is {lease.state}."


def _when(moment: datetime | None) -> str:
    return notices.said(moment) if moment is not None else "when nobody needs it"
