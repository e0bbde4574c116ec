"""Workspaces on the wire."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from leasing.schema.base import Request, Wire


class WorkspaceIn(Request):
    name: str = Field(max_length=40, description="A DNS label, unique among yours or the project's.")
    project: str | None = Field(
        None, max_length=40, description="Whose members share it; absent: it is yours."
    )
    quota: str | None = Field(
        None, max_length=20, description="The most that it may hold: `50G`; absent: the platform's default."
    )
    node: str | None = Field(
        None, max_length=80, description="Where it lies; absent: where it is first used."
    )


class WorkspacePatch(Request):
    quota: str = Field(max_length=20, description="The most that it may hold, from its next use on: `80G`.")


class WorkspaceUseOut(Wire):
    """A lease that has the workspace, or will."""

    lease: str
    owner: str
    state: str
    read_only: bool


class WorkspaceOut(Wire):
    """A workspace, as one who may read it sees it. Sizes in bytes."""

    id: UUID
    ref: str
    """What `lease up --workspace` calls it: `data`, or `vision/data` of a project's."""
    name: str
    project: str | None
    owner: str
    """Who made it."""
    node: str | None
    """Where it lies, and where leases with it are placed; None: it was never used."""
    lost: bool = False
    """Its node was given up, and its files with it; should the node answer again, they may be there."""
    quota_bytes: int | None
    quota_kind: str
    """enforced (it cannot grow past it), watched (measured; above it nothing new may write to it), none, or undecided
    (that depends on the node it is first used on)."""
    size_bytes: int | None
    """As last measured."""
    measured_at: datetime | None
    created_at: datetime
    last_used_at: datetime | None
    used_by: list[WorkspaceUseOut]
    may_write: bool
    """Whether your leases may write to it; all who see it may read it."""
    may_manage: bool
    """Whether you may export it, change its quota and delete it."""


class WorkspacePage(Wire):
    items: list[WorkspaceOut]
