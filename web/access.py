"""Who may use a lease besides who asked for it: the switch for its project, and tokens for its endpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from api.deps import Caller, Core, Now, Unit
from api.revoking import Settle
from leasing.access import Action
from leasing.errors import LeasingError
from leasing.model import Lease
from leasing.schema.people import LeaseTokenIn, TokenOut
from leasing.service import leases, sharing, standings, views
from leasing.service.principal import Principal
from web.render import page

router = APIRouter()
TTL = "30d"
Typed = Annotated[str, Form(max_length=100)]


@dataclass(frozen=True)
class Access:
    """What `_access.html` shows besides the lease: tokens that are good, the one just made, and what was refused."""

    tokens: list[TokenOut] = field(default_factory=list)
    made: TokenOut | None = None
    fault: str = ""
    label: str = ""
    ttl: str = TTL


def of(session: Session, lease: Lease, principal: Principal) -> Access:
    """As the principal sees it."""
    if lease.port is None or not standings.allowed(session, lease, Action.CALL, principal=principal):
        return Access()
    return Access(sharing.tokens(session, lease, principal=principal).items)


@router.post("/leases/{ref}/share")
def share(ref: str, unit: Unit, caller: Caller) -> Response:
    lease = leases.find(unit, ref, principal=caller, action=Action.SHARE, lock=True)
    sharing.share(unit, lease, True, principal=caller)
    return _back(lease)


@router.post("/leases/{ref}/unshare")
def unshare(ref: str, unit: Unit, caller: Caller, settle: Settle) -> Response:
    lease = leases.find(unit, ref, principal=caller, action=Action.SHARE, lock=True)
    sharing.share(unit, lease, False, principal=caller)
    settle()
    return _back(lease)


@router.post("/leases/{ref}/tokens")
def make_token(
    ref: str, request: Request, unit: Unit, caller: Caller, now: Now, core: Core, label: Typed = "", ttl: Typed = TTL
) -> Response:  # fmt: skip
    """Shown once, on a page of its own; what is refused comes back in the form."""
    lease = leases.find(unit, ref, principal=caller, action=Action.CALL, lock=True)
    made, fault = None, ""
    try:
        ask = LeaseTokenIn(label=label.strip()[:80] or "endpoint", ttl=ttl.strip()[:40] or None)
        made = sharing.create_token(unit, lease, ask, principal=caller, now=now)
    except LeasingError as error:
        fault = str(error)
    known = sharing.tokens(unit, lease, principal=caller).items
    access = Access(known, made, fault, label=label if fault else "", ttl=ttl if fault else TTL)
    shown = views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url)
    return page(request, "access.html", caller, 422 if fault else 200, lease=shown, access=access)


@router.post("/leases/{ref}/tokens/{token_id}/revoke")
def revoke_token(ref: str, token_id: UUID, unit: Unit, caller: Caller, now: Now, settle: Settle) -> Response:
    lease = leases.find(unit, ref, principal=caller, action=Action.CALL)
    sharing.revoke_token(unit, lease, token_id, principal=caller, now=now)
    settle()
    return _back(lease)


def _back(lease: Lease) -> Response:
    return RedirectResponse(f"/leases/{lease.id}#access", 303)
