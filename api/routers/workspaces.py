"""Workspaces: make, look, give more, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.deps import Caller, Limits, Now, Unit
from api.openapi import refusals
from leasing.schema.workspace import WorkspaceIn, WorkspaceOut, WorkspacePage, WorkspacePatch
from leasing.service import workspace_views, workspaces

router = APIRouter(prefix="/workspaces", tags=["workspaces"])

Of = Annotated[
    str | None, Query(max_length=40, description="The project whose it is; absent: yours, or named by id.")
]


@router.get("", summary="Workspaces that you may use")
def list_workspaces(unit: Unit, caller: Caller, everyone: bool = False) -> WorkspacePage:
    """Yours, and those of your projects; for admins `everyone` shows every one."""
    return workspace_views.page(unit, principal=caller, everyone=everyone)


@router.post("", status_code=201, summary="Make a workspace", responses=refusals(409))
def create_workspace(ask: WorkspaceIn, unit: Unit, caller: Caller, limits: Limits) -> WorkspaceOut:
    """One of your own is also made by the first lease that names it; a project's is not."""
    found = workspaces.create(unit, ask, principal=caller, limits=limits)
    return workspace_views.one(unit, found.row.id, principal=caller)


@router.get("/{ref}", summary="One workspace, by id or name")
def show_workspace(ref: str, unit: Unit, caller: Caller, project: Of = None) -> WorkspaceOut:
    found = workspaces.find(unit, ref, project, principal=caller)
    return workspace_views.one(unit, found.row.id, principal=caller)


@router.patch("/{ref}", summary="Change a workspace's quota", responses=refusals(409))
def change_workspace(
    ref: str, ask: WorkspacePatch, unit: Unit, caller: Caller, limits: Limits, project: Of = None
) -> WorkspaceOut:
    """For who made it, and owners of its project. It holds from its next use on."""
    found = workspaces.change(unit, ref, project, ask, principal=caller, limits=limits)
    return workspace_views.one(unit, found.row.id, principal=caller)


@router.delete("/{ref}", status_code=204, summary="Delete a workspace", responses=refusals(409))
def delete_workspace(ref: str, unit: Unit, caller: Caller, now: Now, project: Of = None) -> None:
    """For good, with all that is in it. For who made it, and owners of its project; refused while a lease has it, or
    is suspended and could go on with it."""
    workspaces.delete(unit, ref, project, principal=caller, now=now)
