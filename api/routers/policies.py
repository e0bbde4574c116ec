"""How leases are taken back: policies for all, for an environment, a project or one lease."""

from __future__ import annotations

from fastapi import APIRouter, Request

from api.deps import Admin, Limits, Now, Unit
from api.openapi import refusals
from leasing.schema.policy import PolicyIn, PolicyOut, PolicyPage
from leasing.service import policymaking

router = APIRouter(prefix="/policies", tags=["policies"])


@router.get("", summary="The policies of reclaim")
def list_policies(unit: Unit, _: Admin) -> PolicyPage:
    """For admins, the most general first. Of those that fit a lease the most special counts, whole: the lease's own,
    then its project's, then its environment's, then that for all; else the platform's own."""
    return policymaking.page(unit)


@router.get("/{name}", summary="One policy")
def show_policy(name: str, unit: Unit, _: Admin) -> PolicyOut:
    return policymaking.show(unit, name)


@router.put("/{name}", summary="Make a policy, or set it anew", responses=refusals(409, 410))
def set_policy(
    name: str, ask: PolicyIn, request: Request, unit: Unit, caller: Admin, now: Now, limits: Limits
) -> PolicyOut:
    """All of it: what is left out is as the platform's own. It counts at once, also for leases that run; none of them
    is taken back without its warnings."""
    environments = {one.name for one in request.app.state.catalogue}
    return policymaking.put(
        unit, name, ask, environments=environments, principal=caller, limits=limits, now=now
    )


@router.delete("/{name}", status_code=204, summary="Remove a policy")
def remove_policy(name: str, unit: Unit, caller: Admin) -> None:
    """The next more general one counts at once."""
    policymaking.remove(unit, name, principal=caller)
