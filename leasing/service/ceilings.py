"""Setting quotas, and what counts against them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import NotFound
from leasing.model import Member, Project, Quota, User
from leasing.schema.project import QuotaIn, QuotaOut, QuotaPage
from leasing.service import events, holdings, projects, quotas
from leasing.service.principal import Principal
from leasing.service.quotas import HOUR, Ceiling
from leasing.settings.limits import LimitSettings

USERS, PROJECTS = "users", "projects"
"""What a subject begins with."""


def page(
    session: Session, *, principal: Principal, everyone: bool, limits: LimitSettings, now: datetime
) -> QuotaPage:
    """The principal's own limits and those of their projects; for admins with `everyone`, all that were set.

    Of projects only those that have a limit.
    """
    every = everyone and principal.admin
    users = (
        sa.select(User.name, User.id, Quota).outerjoin(Quota, Quota.user_id == User.id).order_by(User.name)
    )
    users = users.where(Quota.id.is_not(None) if every else User.id == principal.user_id)
    shared = sa.select(Project.name, Project.id, Quota).join(Quota, Quota.project_id == Project.id)
    if not every:
        member = sa.exists().where(Member.project_id == Project.id, Member.user_id == principal.user_id)
        shared = shared.where(sa.or_(Project.open, member))
    items = [
        _out(session, quotas.of_user(name, user_id, own, limits), own, now)
        for name, user_id, own in session.execute(users)
    ]
    items += [
        _out(session, quotas.of_project(name, project_id, own), own, now)
        for name, project_id, own in session.execute(shared.order_by(Project.name))
    ]
    return QuotaPage(items=items)


def put(
    session: Session,
    kind: str,
    name: str,
    ask: QuotaIn,
    *,
    principal: Principal,
    limits: LimitSettings,
    now: datetime,
) -> QuotaOut:
    """Set all limits of a user or a project. What they have above it they keep. Raises `NotFound`."""
    user_id, project_id = _subject(session, kind, name)
    own = _of(session, user_id, project_id)
    if own is None:
        own = Quota(user_id=user_id, project_id=project_id)
        session.add(own)
    for field, value in ask.model_dump().items():
        setattr(own, field, value)
    session.flush()
    said = ", ".join(f"{field}={value:g}" for field, value in ask.model_dump(exclude_none=True).items())
    _record(session, "set", kind, name, f"set the quota of {kind}/{name}: {said or 'no limit'}", principal)
    if user_id is not None:
        return _out(session, quotas.of_user(name, user_id, own, limits), own, now)
    assert project_id is not None
    return _out(session, quotas.of_project(name, project_id, own), own, now)


def clear(session: Session, kind: str, name: str, *, principal: Principal) -> None:
    """Back to the platform's defaults. Idempotent. Raises `NotFound`."""
    own = _of(session, *_subject(session, kind, name))
    if own is not None:
        session.delete(own)
        session.flush()
        _record(session, "cleared", kind, name, f"cleared the quota of {kind}/{name}", principal)


def _subject(session: Session, kind: str, name: str) -> tuple[UUID | None, UUID | None]:
    """The user's or the project's id, locked: whoever asks for a lease there has done so, or sees what is set."""
    if kind == PROJECTS:
        return None, projects.find(session, name, lock=True).id
    user_id = session.execute(
        sa.select(User.id).where(User.name == name).with_for_update()
    ).scalar_one_or_none()
    if user_id is None:
        raise NotFound(f"There is no user {name[:60]!r}.", hint="lease admin users ls shows them.")
    return user_id, None


def _of(session: Session, user_id: UUID | None, project_id: UUID | None) -> Quota | None:
    whose = Quota.user_id == user_id if user_id is not None else Quota.project_id == project_id
    return session.execute(sa.select(Quota).where(whose)).scalar_one_or_none()


def _record(session: Session, what: str, kind: str, name: str, said: str, principal: Principal) -> None:
    events.record(
        session,
        f"quota.{what}",
        f"{principal.name} {said}",
        actor=principal.actor,
        data={"subject": f"{kind}/{name}"},
    )


def _out(session: Session, ceiling: Ceiling, own: Quota | None, now: datetime) -> QuotaOut:
    held = holdings.held(session, ceiling.whose, now=now)
    limited = ceiling.device_hours is not None
    uses = holdings.used(session, ceiling.whose, since=now - ceiling.window, now=now) if limited else []
    return QuotaOut(
        subject=f"{PROJECTS if ceiling.shared else USERS}/{ceiling.name}",
        own=own is not None,
        max_devices=ceiling.max_devices,
        devices=held.devices,
        max_leases=ceiling.max_leases,
        leases=held.leases,
        device_hours=ceiling.device_hours,
        window_hours=int(ceiling.window.total_seconds()) // HOUR if limited else None,
        used_device_hours=holdings.device_seconds(uses) / HOUR if limited else None,
        to_come_device_hours=held.to_come / HOUR if limited else None,
        frees_at=uses[0].starts_at + ceiling.window if uses else None,
    )
