"""Persistent volumes mounted at /workspace; they outlive their leases."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from leasing.model.base import Base, Bytes, Created, Key, Moment, one_of
from leasing.states import WorkspaceKind


class Workspace(Base):
    """A volume of a user's, or of a project's; bound to the node it was first used on."""

    __tablename__ = "workspace"
    __table_args__ = (
        one_of("kind", WorkspaceKind),
        CheckConstraint("quota_bytes > 0", name="quota_bytes"),
        Index(
            "uq_workspace_user",
            "owner_id",
            "name",
            unique=True,
            postgresql_where=text("project_id IS NULL AND deleted_at IS NULL"),
        ),
        Index(
            "uq_workspace_project",
            "project_id",
            "name",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    id: Mapped[Key]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    """Who made it; of one of a project's, too."""
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("project.id"))
    """Set for one that the project's members share."""
    name: Mapped[str]
    node_id: Mapped[UUID | None] = mapped_column(ForeignKey("node.id"))
    kind: Mapped[str] = mapped_column(server_default=WorkspaceKind.VOLUME.value)
    quota_bytes: Mapped[Bytes | None]
    size_bytes: Mapped[Bytes | None]
    """As last measured; None before it was."""
    measured_at: Mapped[datetime | None]
    created_at: Mapped[Created]
    last_used_at: Mapped[datetime | None]
    warned_at: Mapped[datetime | None]
    """When its owner was told that it is nearly full; None while it is not."""
    deleted_at: Mapped[datetime | None]
    """Its owner deleted it; the volume goes with the next sweep of its node."""
    removed_at: Mapped[datetime | None]
    """When nothing of it was left on its node. The row stays, for the leases that had it."""


class WorkspaceExport(Base):
    """Somebody is being sent a workspace: owns the helper container that is there for it until `until`."""

    __tablename__ = "workspace_export"

    id: Mapped[Key]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"), index=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[Created]
    until: Mapped[Moment]
    """Put off again and again by who streams it; past it, whoever that was is gone."""
