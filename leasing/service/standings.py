"""How somebody stands to leases, as `leasing.access` judges it."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import access
from leasing.access import Action, Scope, Standing
from leasing.errors import NotAllowed
from leasing.model import Lease, Member
from leasing.service.principal import Principal
from leasing.states import ProjectRole


def of(session: Session, leases: Collection[Lease], principal: Principal) -> dict[UUID, Standing]:
    """To each of them, by the lease's id. At most one statement, however many there are."""
    asked = {lease.project_id for lease in leases if lease.owner_id != principal.user_id}
    roles = _roles(session, asked, principal) if asked and not principal.admin else {}
    return {
        lease.id: Standing(
            owner=lease.owner_id == principal.user_id,
            admin=principal.admin,
            role=roles.get(lease.project_id),
            shared=lease.shared,
            scope=_scope(principal.lease_id, lease.id),
        )
        for lease in leases
    }


def allowed(session: Session, lease: Lease, action: Action, *, principal: Principal) -> bool:
    """Whether the principal may do that with the lease."""
    return access.decide(action, of(session, [lease], principal)[lease.id]) is None


def check(session: Session, lease: Lease, action: Action, *, principal: Principal) -> None:
    """Raises `NotAllowed` unless the principal may do that with the lease."""
    refusal = access.decide(action, of(session, [lease], principal)[lease.id])
    if refusal is not None:
        message, hint = access.words(refusal, action, lease.name)
        raise NotAllowed(message, hint=hint)


def listed(principal: Principal, *, everyone: bool) -> sa.ColumnElement[bool]:
    """Which leases a list is about: one's own, and those shared with one's projects. `everyone`: all that one may see,
    which is for admins all there are, and for owners of projects all of those."""
    if everyone and principal.admin:
        return sa.true()
    member = sa.select(Member.project_id).where(Member.user_id == principal.user_id)
    mine = sa.or_(Lease.owner_id == principal.user_id, sa.and_(Lease.shared, Lease.project_id.in_(member)))
    overseen = Lease.project_id.in_(member.where(Member.role == ProjectRole.OWNER))
    return sa.or_(mine, overseen) if everyone else mine


def _roles(session: Session, projects: Collection[UUID], principal: Principal) -> dict[UUID, ProjectRole]:
    found = session.execute(
        sa.select(Member.project_id, Member.role).where(
            Member.user_id == principal.user_id, Member.project_id.in_(projects)
        )
    )
    return {project_id: ProjectRole(role) for project_id, role in found}


def _scope(only: UUID | None, lease_id: UUID) -> Scope:
    if only is None:
        return Scope.FULL
    return Scope.THIS if only == lease_id else Scope.OTHER
