"""Workspaces: how full they are, who has them; making, exporting and deleting them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from api.deps import Caller, Limits, Now, Unit
from leasing.errors import LeasingError
from leasing.schema.workspace import WorkspaceIn
from leasing.service import projects, workspace_views, workspaces
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from web.render import page

router = APIRouter()
Field = Annotated[str, Form(max_length=100)]


@router.get("/workspaces")
def list_all(
    request: Request,
    unit: Unit,
    caller: Caller,
    limits: Limits,
    all: bool = False,  # noqa: A002 - the query's word
) -> Response:
    """htmx asks again every few seconds, for the table only."""
    return _page(request, unit, caller, limits, everyone=all)


@router.post("/workspaces")
def make(
    request: Request, unit: Unit, caller: Caller, limits: Limits, name: Field = "", project: Field = "",
    quota: Field = "",
) -> Response:  # fmt: skip
    try:
        wish = WorkspaceIn(name=name.strip()[:40], project=project or None, quota=quota.strip()[:20] or None)
        with unit.begin_nested():
            workspaces.create(unit, wish, principal=caller, limits=limits)
    except LeasingError as error:
        typed = {"name": name, "project": project, "quota": quota}
        return _page(request, unit, caller, limits, status=422, fault=str(error), typed=typed)
    return RedirectResponse("/workspaces", 303)


@router.post("/workspaces/{workspace_id}/delete")
def delete(
    workspace_id: UUID,
    request: Request,
    unit: Unit,
    caller: Caller,
    now: Now,
    limits: Limits,
    typed: Field = "",
) -> Response:
    """For good, so its name has to be typed."""
    found = workspaces.find(unit, str(workspace_id), principal=caller)
    if typed.strip() != found.ref:
        said = f"Nothing was deleted: {typed[:60]!r} is not {found.ref!r}."
        return _page(request, unit, caller, limits, status=422, refused=said)
    try:
        with unit.begin_nested():
            workspaces.delete(unit, str(workspace_id), None, principal=caller, now=now)
    except LeasingError as error:
        return _page(request, unit, caller, limits, status=409, refused=str(error))
    return RedirectResponse("/workspaces", 303)


def _page(
    request: Request, unit: Unit, caller: Principal, limits: LimitSettings, *, everyone: bool = False,
    status: int = 200, fault: str = "", refused: str = "", typed: dict[str, str] | None = None,
) -> Response:  # fmt: skip
    return page(
        request,
        "_workspaces.html" if "hx-request" in request.headers else "workspaces.html",
        caller,
        status,
        items=workspace_views.page(unit, principal=caller, everyone=everyone).items,
        everyone=everyone,
        limits=limits,
        fault=fault,
        refused=refused,
        typed=typed or {"name": "", "project": "", "quota": ""},
        projects=[one.name for one in projects.mine(unit, principal=caller) if one.role or caller.admin],
    )
