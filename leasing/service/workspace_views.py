"""Workspaces as people see them: rows → wire models, a fixed number of statements for any page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.model import Lease, Member, Node, Project, User, Workspace
from leasing.schema.workspace import WorkspaceOut, WorkspacePage, WorkspaceUseOut
from leasing.service.principal import Principal
from leasing.service.workspaces import WRITERS
from leasing.states import LeaseState, NodeHealth, ProjectRole, WorkspaceKind


def page(session: Session, *, principal: Principal, everyone: bool) -> WorkspacePage:
    """The caller's own, then those of their projects, by name; `everyone` is honoured for admins."""
    own = sa.and_(Workspace.project_id.is_(None), Workspace.owner_id == principal.user_id)
    wanted = sa.true() if everyone and principal.admin else sa.or_(own, Member.role.is_not(None))
    return WorkspacePage(items=_outs(session, wanted, principal))


def one(session: Session, workspace_id: UUID, *, principal: Principal) -> WorkspaceOut:
    """One that the caller may see."""
    return _outs(session, Workspace.id == workspace_id, principal)[0]


def _outs(session: Session, wanted: sa.ColumnElement[bool], principal: Principal) -> list[WorkspaceOut]:
    rows: list[Any] = list(
        session.execute(
            sa.select(
                Workspace,
                User.name.label("owner"),
                Project.name.label("project"),
                Node.name.label("node"),
                Node.health.label("node_health"),
                Member.role,
            )
            .join(User, User.id == Workspace.owner_id)
            .outerjoin(Project, Project.id == Workspace.project_id)
            .outerjoin(Node, Node.id == Workspace.node_id)
            .outerjoin(
                Member,
                sa.and_(Member.project_id == Workspace.project_id, Member.user_id == principal.user_id),
            )
            .where(wanted, Workspace.deleted_at.is_(None))
            .order_by(Project.name.is_not(None), Project.name, Workspace.name, Workspace.created_at)
        )
    )
    used = _used(session, [row.Workspace.id for row in rows])
    return [_out(row, used[row.Workspace.id], principal) for row in rows]


def _used(session: Session, ids: Sequence[UUID]) -> dict[UUID, list[WorkspaceUseOut]]:
    used: dict[UUID, list[WorkspaceUseOut]] = defaultdict(list)
    rows = session.execute(
        sa.select(Workspace.id, Lease.name, User.name, Lease.state, Lease.workspace_read_only)
        .join(Lease, Lease.workspace_id == Workspace.id)
        .join(User, User.id == Lease.owner_id)
        .where(Workspace.id.in_(ids), Lease.state != LeaseState.ENDED)
        .order_by(Lease.workspace_read_only, Lease.created_at)
    )
    for workspace_id, lease, owner, state, read_only in rows:
        used[workspace_id].append(WorkspaceUseOut(lease=lease, owner=owner, state=state, read_only=read_only))
    return used


def _out(row: Any, used: list[WorkspaceUseOut], principal: Principal) -> WorkspaceOut:
    one: Workspace = row.Workspace
    made_it = one.owner_id == principal.user_id
    writes = (row.role in WRITERS or principal.admin) if one.project_id is not None else made_it
    manages = principal.admin or (
        row.role == ProjectRole.OWNER or (made_it and row.role in WRITERS) if one.project_id else made_it
    )
    return WorkspaceOut(
        id=one.id,
        ref=f"{row.project}/{one.name}" if row.project else one.name,
        name=one.name,
        project=row.project,
        owner=row.owner,
        node=row.node,
        lost=row.node_health == NodeHealth.LOST,
        quota_bytes=one.quota_bytes,
        quota_kind=_quota_kind(one),
        size_bytes=one.size_bytes,
        measured_at=one.measured_at,
        created_at=one.created_at,
        last_used_at=one.last_used_at,
        used_by=used,
        may_write=writes,
        may_manage=manages,
    )


def _quota_kind(one: Workspace) -> str:
    if one.quota_bytes is None:
        return "none"
    if one.last_used_at is None:
        return "undecided"
    return "enforced" if one.kind == WorkspaceKind.QUOTA else "watched"
