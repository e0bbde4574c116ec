"""Leases: ask, look, renew, release."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request

from api.deps import Caller, Core, Limits, Now, Unit
from api.openapi import refusals
from api.revoking import ANSWERS, Settle
from leasing.access import Action
from leasing.errors import Invalid
from leasing.schema.keep import KeepRequest
from leasing.schema.lease import (
    LeaseOut,
    LeasePage,
    LeaseRequest,
    QueuePage,
    RenewRequest,
    ResumeRequest,
    WhyOut,
)
from leasing.service import device_faults, environments, keeps, leases, requesting, suspension, views
from leasing.states import LeaseState

router = APIRouter(tags=["leases"])


@router.post("/leases", status_code=201, summary="Ask for a lease", responses=refusals(409))
def request_lease(
    ask: LeaseRequest,
    unit: Unit,
    caller: Caller,
    now: Now,
    limits: Limits,
    core: Core,
    request: Request,
    idempotency_key: Annotated[str | None, Header(pattern=r"^[!-~]{1,200}$")] = None,
) -> LeaseOut:
    """It is queued, and starts when there is room. The same `Idempotency-Key` again answers with the same lease."""
    ask = environments.filled(ask, request.app.state.catalogue)
    lease = requesting.request(
        unit, ask, principal=caller, limits=limits, idempotency_key=idempotency_key, now=now
    )
    return views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url)


@router.get("/leases", summary="Leases, newest first")
def list_leases(
    unit: Unit,
    caller: Caller,
    now: Now,
    core: Core,
    everyone: bool = False,
    ended: bool = False,
    state: Annotated[str | None, Query(max_length=20)] = None,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=views.MAX_PAGE)] = 100,
) -> LeasePage:
    if state is not None and state not in set(LeaseState):
        raise Invalid(f"{state!r} is not a state.", hint=f"States: {', '.join(LeaseState)}.")
    return views.lease_page(
        unit,
        principal=caller,
        everyone=everyone,
        ended=ended,
        state=state,
        cursor=cursor,
        limit=limit,
        now=now,
        endpoints=core.endpoint_url,
    )


@router.get("/leases/{ref}", summary="One lease, by id or name")
def show_lease(ref: str, unit: Unit, caller: Caller, now: Now, core: Core) -> LeaseOut:
    lease = leases.find(unit, ref, principal=caller, action=Action.SEE)
    return views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url)


@router.delete("/leases/{ref}", summary="Release a lease", responses={200: ANSWERS})
def release_lease(ref: str, unit: Unit, caller: Caller, now: Now, core: Core, settle: Settle) -> LeaseOut:
    """Its endpoint is shut with the answer. Idempotent: one that is over already is answered as it is."""
    lease = leases.find(unit, ref, principal=caller, action=Action.RELEASE, lock=True)
    leases.release(unit, lease, principal=caller, now=now)
    found = views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url)
    if lease.port is not None:
        settle()
    return found


@router.post("/leases/{ref}/renew", summary="Move a lease's deadline", responses=refusals(409, 410))
def renew_lease(
    ref: str, ask: RenewRequest, unit: Unit, caller: Caller, now: Now, limits: Limits, core: Core
) -> LeaseOut:
    """Of a suspended one: keep its files for longer."""
    lease = leases.find(unit, ref, principal=caller, action=Action.CHANGE, lock=True)
    leases.renew(unit, lease, ask, principal=caller, limits=limits, now=now)
    return views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url)


@router.post("/leases/{ref}/suspend", summary="Suspend a lease", responses=refusals(409, 410))
def suspend_lease(ref: str, unit: Unit, caller: Caller, now: Now, core: Core) -> LeaseOut:
    """It is stopped, its devices are free, its files and the time it has left are kept. Idempotent."""
    lease = leases.find(unit, ref, principal=caller, action=Action.CHANGE, lock=True)
    suspension.suspend(unit, lease, principal=caller, now=now)
    return views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url)


@router.post("/leases/{ref}/resume", summary="Let a suspended lease go on", responses=refusals(409, 410))
def resume_lease(
    ref: str,
    unit: Unit,
    caller: Caller,
    now: Now,
    limits: Limits,
    core: Core,
    ask: ResumeRequest | None = None,
) -> LeaseOut:
    """It queues again, where it stood, and goes on with its files when there is room. Idempotent.

    One whose time was over gets time anew: what the body says, else what it was first asked for.
    """
    lease = leases.find(unit, ref, principal=caller, action=Action.CHANGE, lock=True)
    suspension.resume(unit, lease, ask, principal=caller, limits=limits, now=now)
    return views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url)


@router.post("/leases/{ref}/restart", summary="Start a lease's container again", responses=refusals(409, 410))
def restart_lease(ref: str, unit: Unit, caller: Caller, now: Now, core: Core) -> LeaseOut:
    """What runs in it is stopped and started again, with its files and its time; its devices are attached anew. If one
    of them is out of order, it queues and goes on with others."""
    lease = leases.find(unit, ref, principal=caller, action=Action.CHANGE, lock=True)
    device_faults.restart(unit, lease, principal=caller, now=now)
    return views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url)


@router.post(
    "/leases/{ref}/keep", summary="Keep a lease although it looks idle", responses=refusals(409, 410)
)
def keep_lease(ref: str, ask: KeepRequest, unit: Unit, caller: Caller, now: Now, core: Core) -> LeaseOut:
    """For a time, or while a command succeeds inside it. Another keep of the same lease is replaced."""
    lease = leases.find(unit, ref, principal=caller, action=Action.CHANGE, lock=True)
    keeps.ask(unit, lease, ask, principal=caller, now=now)
    return views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url)


@router.delete("/leases/{ref}/keep", summary="Keep a lease no longer")
def unkeep_lease(ref: str, unit: Unit, caller: Caller, now: Now, core: Core) -> LeaseOut:
    """From now on it is judged by its other signals alone. Idempotent."""
    lease = leases.find(unit, ref, principal=caller, action=Action.CHANGE, lock=True)
    keeps.end(unit, lease, principal=caller, now=now)
    return views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url)


@router.get("/leases/{ref}/why", summary="Why a lease is where it is")
def why_lease(ref: str, unit: Unit, caller: Caller, now: Now) -> WhyOut:
    return views.why(unit, leases.find(unit, ref, principal=caller, action=Action.SEE), now=now)


@router.get("/queue", summary="Who waits, in the order of service, and how good forecasts were")
def show_queue(unit: Unit, _: Caller, now: Now) -> QueuePage:
    return views.queue(unit, now=now)
