"""What leases' endpoints are told besides their port."""

from __future__ import annotations

from fastapi import APIRouter

from api.deps import Caller, Core, Now, Unit
from api.openapi import refusals
from leasing.access import Action
from leasing.schema.endpoint import EndpointRequest
from leasing.schema.lease import LeaseOut
from leasing.service import endpoints, leases, views

router = APIRouter(tags=["leases"])


@router.patch("/leases/{ref}/endpoint", summary="Change a lease's endpoint", responses=refusals(409, 410))
def change_endpoint(
    ref: str, ask: EndpointRequest, unit: Unit, caller: Caller, now: Now, core: Core
) -> LeaseOut:
    """Its cache, waking and limits, in force at once. What the body does not name stays as it is."""
    lease = leases.find(unit, ref, principal=caller, action=Action.CHANGE, lock=True)
    endpoints.change(unit, lease, ask, principal=caller)
    return views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url)
