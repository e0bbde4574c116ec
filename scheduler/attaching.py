"""Before a lease's container is made: its workspace's volume is there, and held to its quota where that can be."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from leasing import names
from leasing.database import Sessions
from leasing.drivers.protocol import Lifecycle
from leasing.model import Workspace
from leasing.states import WorkspaceKind


def ready(sessions: Sessions, engine: Lifecycle, workspace_id: UUID, installation: str) -> None:
    """Found or made, and grown to its quota; its row says what it turned out to be. Idempotent.

    Raises `DriverError`, also if its files were there and are no more: it is for people to say what then.
    """
    with sessions() as session:
        quota = session.execute(
            sa.select(Workspace.quota_bytes).where(Workspace.id == workspace_id)
        ).scalar_one()
    volume = names.volume(installation, workspace_id)
    held = engine.ensure_volume(volume, installation=installation, size_bytes=quota)
    kind = WorkspaceKind.QUOTA if held else WorkspaceKind.VOLUME
    with sessions.begin() as session:
        session.execute(
            sa.update(Workspace).where(Workspace.id == workspace_id, Workspace.kind != kind).values(kind=kind)
        )
