"""Sending a workspace to its owner: who is at it, and which helper containers are there for that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import names
from leasing.errors import Conflict, OverQuota
from leasing.model import Installation, Node, User, WorkspaceExport
from leasing.service import events, workspaces
from leasing.service.principal import Principal
from leasing.states import NodeHealth

GRACE = timedelta(seconds=90)
"""A claim that nobody puts off for so long is nobody's."""
BEAT_SECONDS = 20.0
MOST = 2
"""Exports that one user may have under way."""
KEPT = timedelta(days=1)


@dataclass(frozen=True)
class Export:
    """What is to be read, through which helper, on which engine."""

    id: UUID
    workspace_id: UUID
    filename: str
    volume: str
    container: str
    installation: str
    driver: str
    address: str


def begin(session: Session, ref: str, project: str | None, *, principal: Principal) -> Export:
    """Raises `NotFound`, `NotAllowed`, `OverQuota`, and `Conflict` where there is nothing or nobody to read it from."""
    found = workspaces.to_manage(session, ref, project, principal=principal)
    row = found.row
    node = session.get(Node, row.node_id) if row.node_id is not None else None
    if node is None or row.last_used_at is None:
        raise Conflict(
            f"There is nothing in workspace {found.ref}: no lease has had it yet.",
            hint=f"Use it: lease up --workspace {found.ref}",
        )
    if node.health != NodeHealth.READY:
        raise Conflict(
            f"Workspace {found.ref} lies on node {node.name}, which is {node.health}.",
            hint=f"Try again when it answers: lease workspace show {found.ref}",
        )
    # of two at once, the second counts the first
    session.execute(
        sa.select(User.id).where(User.id == principal.user_id).with_for_update(key_share=True)
    ).scalar_one()
    under_way = session.execute(
        sa.select(sa.func.count())
        .select_from(WorkspaceExport)
        .where(WorkspaceExport.user_id == principal.user_id, WorkspaceExport.until > sa.func.now())
    ).scalar_one()
    if under_way >= MOST:
        raise OverQuota(
            f"You have {under_way} exports under way; the limit is {MOST}.",
            hint="When one is done, try again.",
        )
    export = WorkspaceExport(workspace_id=row.id, user_id=principal.user_id, until=sa.func.now() + GRACE)
    session.add(export)
    session.flush()
    data = {"workspace": str(row.id), "ref": found.ref}
    message = f"{principal.name} took a copy of workspace {found.ref}"
    events.record(session, "workspace.exported", message, actor=principal.actor, data=data)
    installation = session.execute(sa.select(Installation.id)).scalar_one()
    return Export(
        id=export.id,
        workspace_id=row.id,
        filename=f"{row.name}.tar",
        volume=names.volume(installation, row.id),
        container=names.export(installation, export.id),
        installation=installation,
        driver=node.driver,
        address=node.address,
    )


def still(session: Session, export: Export, *, principal: Principal) -> None:
    """Put the end of the claim off, if it may go on. Raises `NotFound` and `NotAllowed` if not."""
    workspaces.to_manage(session, str(export.workspace_id), None, principal=principal)
    put_off = sa.update(WorkspaceExport).where(WorkspaceExport.id == export.id)
    session.execute(put_off.values(until=sa.func.now() + GRACE))


def end(session: Session, export: Export) -> None:
    session.execute(sa.delete(WorkspaceExport).where(WorkspaceExport.id == export.id))


def live(session: Session) -> list[UUID]:
    """Those under way: their helper containers are somebody's."""
    return list(
        session.execute(sa.select(WorkspaceExport.id).where(WorkspaceExport.until > sa.func.now())).scalars()
    )


def prune(session: Session) -> None:
    """Forget those whose process is gone."""
    session.execute(sa.delete(WorkspaceExport).where(WorkspaceExport.until < sa.func.now() - KEPT))
