"""What users and projects may have."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter

from api.deps import Admin, Caller, Limits, Now, Unit
from leasing.schema.project import QuotaIn, QuotaOut, QuotaPage
from leasing.service import ceilings

router = APIRouter(prefix="/quotas", tags=["projects"])

Kind = Literal["users", "projects"]


@router.get("", summary="Your limits, and what counts against them")
def list_quotas(unit: Unit, caller: Caller, now: Now, limits: Limits, everyone: bool = False) -> QuotaPage:
    """Your own, and those of your projects; for admins `everyone` shows every one that was set."""
    return ceilings.page(unit, principal=caller, everyone=everyone, limits=limits, now=now)


@router.put("/{kind}/{name}", summary="Set the limits of a user or a project")
def set_quota(
    kind: Kind, name: str, ask: QuotaIn, unit: Unit, caller: Admin, now: Now, limits: Limits
) -> QuotaOut:
    """All of them: what is left out is not limited, or, for users, as the platform's default. Leases that run stay."""
    return ceilings.put(unit, kind, name, ask, principal=caller, limits=limits, now=now)


@router.delete("/{kind}/{name}", status_code=204, summary="Forget the limits of a user or a project")
def clear_quota(kind: Kind, name: str, unit: Unit, caller: Admin) -> None:
    """Users then have the platform's defaults, projects no limit."""
    ceilings.clear(unit, kind, name, principal=caller)
