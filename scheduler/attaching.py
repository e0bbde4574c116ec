"""Before a lease's container is made: its workspace's volume is there, and held to its quota where that can be."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from leasing import names
from leasing.database import Sessions
from leasing.drivers.protocol import Lifecycle
from leasing.model import Lease, Run, Workspace
from leasing.states import WorkspaceKind


def ready(sessions: Sessions, engine: Lifecycle, workspace_id: UUID, installation: str) -> None:
    """Found or made, and grown to its quota; its row says what it turned out to be. Idempotent.

    Raises `DriverError`, and `VolumeGone` if its files were there and are no more: it is for people to say what then.
    """
    used = sa.exists().where(
        Lease.workspace_id == workspace_id, Run.lease_id == Lease.id, Run.started_at.is_not(None)
    )
    with sessions() as session:
        quota, before = session.execute(
            sa.select(Workspace.quota_bytes, sa.or_(Workspace.measured_at.is_not(None), used)).where(
                Workspace.id == workspace_id
            )
        ).one()
    volume = names.volume(installation, workspace_id)
    held = engine.ensure_volume(volume, installation=installation, size_bytes=quota, anew=not before)
    kind = WorkspaceKind.QUOTA if held else WorkspaceKind.VOLUME
    with sessions.begin() as session:
        session.execute(
            sa.update(Workspace).where(Workspace.id == workspace_id, Workspace.kind != kind).values(kind=kind)
        )
