"""Projects and who belongs to them."""

from __future__ import annotations

from fastapi import APIRouter

from api.deps import Admin, Caller, Unit
from api.openapi import refusals
from api.revoking import ANSWERS, Settle
from leasing.schema.project import MemberIn, ProjectIn, ProjectOut, ProjectPage, ProjectPatch
from leasing.service import projects

router = APIRouter(prefix="/projects", tags=["projects"])


@router.get("", summary="Projects that you may see")
def list_projects(unit: Unit, caller: Caller, everyone: bool = False) -> ProjectPage:
    """Yours, and those that are open to all; for admins `everyone` shows every one."""
    return projects.page(unit, principal=caller, everyone=everyone)


@router.post("", status_code=201, summary="Make a project", responses=refusals(409))
def create_project(ask: ProjectIn, unit: Unit, caller: Admin) -> ProjectOut:
    return projects.create(unit, ask, principal=caller)


@router.patch("/{name}", summary="Change a project")
def change_project(name: str, ask: ProjectPatch, unit: Unit, caller: Admin) -> ProjectOut:
    return projects.change(unit, name, ask, principal=caller)


@router.delete("/{name}", status_code=204, summary="Delete a project", responses=refusals(409))
def delete_project(name: str, unit: Unit, caller: Admin) -> None:
    """With its members and its quota; refused once anything was leased or reserved in its name."""
    projects.delete(unit, name, principal=caller)


@router.put("/{name}/members/{user}", summary="Let somebody in, or change their role")
def set_member(name: str, user: str, ask: MemberIn, unit: Unit, caller: Caller) -> ProjectOut:
    """For the project's owners and admins."""
    return projects.set_member(unit, name, user, ask, principal=caller)


@router.delete(
    "/{name}/members/{user}",
    status_code=204,
    summary="Take somebody out of a project",
    responses={204: ANSWERS},
)
def remove_member(name: str, user: str, unit: Unit, caller: Caller, settle: Settle) -> None:
    """For the project's owners and admins; anybody may leave. Their leases go on; those that others share with the
    project are shut to them with the answer."""
    projects.remove_member(unit, name, user, principal=caller)
    settle()
