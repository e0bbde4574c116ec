"""Leases shared with their projects, and tokens for one lease."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from api.deps import Caller, Core, Now, Unit
from api.openapi import refusals
from api.revoking import ANSWERS, Settle
from leasing.access import Action
from leasing.schema.lease import LeaseOut
from leasing.schema.people import LeaseTokenIn, TokenOut, TokenPage
from leasing.service import leases, sharing, views

router = APIRouter(tags=["access"])


@router.post("/leases/{ref}/share", summary="Share a lease with its project", responses=refusals(410))
def share_lease(ref: str, unit: Unit, caller: Caller, now: Now, core: Core) -> LeaseOut:
    """Viewers may then call its endpoint, developers enter and change it, owners release it. Idempotent."""
    lease = leases.find(unit, ref, principal=caller, action=Action.SHARE, lock=True)
    sharing.share(unit, lease, True, principal=caller)
    return views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url)


@router.delete(
    "/leases/{ref}/share",
    summary="Share a lease no longer",
    responses=refusals(410) | {200: ANSWERS},
)
def unshare_lease(ref: str, unit: Unit, caller: Caller, now: Now, core: Core, settle: Settle) -> LeaseOut:
    """What others do in it or through its endpoint is cut. Idempotent."""
    lease = leases.find(unit, ref, principal=caller, action=Action.SHARE, lock=True)
    sharing.share(unit, lease, False, principal=caller)
    found = views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url)
    settle()
    return found


@router.get("/leases/{ref}/tokens", summary="Tokens for one lease")
def list_lease_tokens(ref: str, unit: Unit, caller: Caller) -> TokenPage:
    """Yours that are good; everybody's, for who may share the lease. Without their secrets."""
    lease = leases.find(unit, ref, principal=caller, action=Action.CALL)
    return sharing.tokens(unit, lease, principal=caller)


@router.post(
    "/leases/{ref}/tokens",
    status_code=201,
    summary="Make a token for one lease",
    responses=refusals(409, 410),
)
def create_lease_token(ref: str, ask: LeaseTokenIn, unit: Unit, caller: Caller, now: Now) -> TokenOut:
    """It opens the lease's endpoint and nothing else, to hand to another application, for as long as you may call that
    yourself. Its secret is in this answer and nowhere else."""
    lease = leases.find(unit, ref, principal=caller, action=Action.CALL, lock=True)
    return sharing.create_token(unit, lease, ask, principal=caller, now=now)


@router.delete(
    "/leases/{ref}/tokens/{token_id}",
    status_code=204,
    summary="Revoke a token for one lease",
    responses={204: ANSWERS},
)
def revoke_lease_token(
    ref: str, token_id: UUID, unit: Unit, caller: Caller, now: Now, settle: Settle
) -> None:
    """Yours; anybody's, for who may share the lease. Idempotent."""
    lease = leases.find(unit, ref, principal=caller, action=Action.CALL)
    sharing.revoke_token(unit, lease, token_id, principal=caller, now=now)
    settle()
