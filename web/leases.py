"""My leases, one lease live, and a new one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from api.deps import Caller, Core, Limits, Now, Unit
from api.revoking import Settle
from leasing.access import Action
from leasing.errors import Invalid, LeasingError
from leasing.model import Lease
from leasing.schema.lease import RenewRequest
from leasing.service import (
    device_faults,
    event_views,
    keeps,
    leases,
    offers,
    projects,
    suspension,
    tickets,
    views,
)
from leasing.states import Goal, LeaseState
from web import access, form, keeping
from web.refusals import Refused
from web.render import page

router = APIRouter()
EVENTS = 100
"""So many are shown of a lease; `lease events` tells all."""


@router.get("/")
def home(request: Request, unit: Unit, caller: Caller, now: Now, core: Core, all: bool = False) -> Response:  # noqa: A002 - the query's word
    """htmx asks again every two seconds, for the table only."""
    found = views.lease_page(
        unit, principal=caller, everyone=all, ended=False, state=None, cursor=None, limit=200, now=now,
        endpoints=core.endpoint_url,
    )  # fmt: skip
    ended = views.lease_page(
        unit, principal=caller, everyone=all, ended=True, state="ended", cursor=None, limit=10, now=now,
        endpoints=core.endpoint_url,
    )  # fmt: skip
    template = "_leases.html" if "hx-request" in request.headers else "home.html"
    return page(request, template, caller, live=found.items, ended=ended.items, everyone=all)


@router.get("/new")
def ask(
    request: Request, unit: Unit, caller: Caller, now: Now, limits: Limits,
    image: Annotated[str, Query(max_length=512)] = "",
) -> Response:  # fmt: skip
    """`image` is filled in already, for links that offer one."""
    return _form(request, unit, caller, now, limits, form.Typed(image=image), {})


@router.post("/new")
def make(
    request: Request,
    unit: Unit,
    caller: Caller,
    now: Now,
    limits: Limits,
    typed: Annotated[form.Typed, Form()],
) -> Response:
    """What is refused comes back in the form, as it was filled in, with the reasons."""
    try:
        lease = form.ask(
            unit, typed, principal=caller, limits=limits, catalogue=request.app.state.catalogue, now=now
        )
    except Refused as refused:
        return _form(request, unit, caller, now, limits, typed, refused.faults)
    return RedirectResponse(f"/leases/{lease.id}", 303)


@router.get("/leases/{ref}")
def show(ref: str, request: Request, unit: Unit, caller: Caller, now: Now, core: Core) -> Response:
    """htmx asks again every second for what may have changed; status 286 tells it that nothing will any more."""
    lease = leases.find(unit, ref, principal=caller, action=Action.SEE)
    if "hx-request" in request.headers:
        status = 286 if lease.state == LeaseState.ENDED else 200
        return _lease(request, unit, caller, now, core, lease, "_lease.html", status=status)
    return _lease(request, unit, caller, now, core, lease, "lease.html")


@router.post("/leases/{ref}/release")
def release(ref: str, unit: Unit, caller: Caller, now: Now, settle: Settle) -> Response:
    """Its endpoint is shut with the answer."""
    lease = leases.find(unit, ref, principal=caller, action=Action.RELEASE, lock=True)
    leases.release(unit, lease, principal=caller, now=now)
    if lease.port is not None:
        settle()
    return RedirectResponse(f"/leases/{lease.id}", 303)


@router.post("/leases/{ref}/suspend")
def suspend(ref: str, request: Request, unit: Unit, caller: Caller, now: Now, core: Core) -> Response:
    lease = leases.find(unit, ref, principal=caller, action=Action.CHANGE, lock=True)
    try:
        suspension.suspend(unit, lease, principal=caller, now=now)
    except LeasingError as error:
        return _lease(request, unit, caller, now, core, lease, "lease.html", status=409, refused=str(error))
    return RedirectResponse(f"/leases/{lease.id}", 303)


@router.post("/leases/{ref}/resume")
def resume(
    ref: str, request: Request, unit: Unit, caller: Caller, now: Now, limits: Limits, core: Core
) -> Response:
    lease = leases.find(unit, ref, principal=caller, action=Action.CHANGE, lock=True)
    try:
        suspension.resume(unit, lease, principal=caller, limits=limits, now=now)
    except LeasingError as error:
        return _lease(request, unit, caller, now, core, lease, "lease.html", status=409, refused=str(error))
    return RedirectResponse(f"/leases/{lease.id}", 303)


@router.post("/leases/{ref}/restart")
def restart(ref: str, request: Request, unit: Unit, caller: Caller, now: Now, core: Core) -> Response:
    lease = leases.find(unit, ref, principal=caller, action=Action.CHANGE, lock=True)
    try:
        device_faults.restart(unit, lease, principal=caller, now=now)
    except LeasingError as error:
        return _lease(request, unit, caller, now, core, lease, "lease.html", status=409, refused=str(error))
    return RedirectResponse(f"/leases/{lease.id}", 303)


@router.post("/leases/{ref}/extend")
def extend(
    ref: str, request: Request, unit: Unit, caller: Caller, now: Now, limits: Limits, core: Core,
    ttl: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    lease = leases.find(unit, ref, principal=caller, action=Action.CHANGE, lock=True)
    try:
        with unit.begin_nested():
            leases.renew(
                unit, lease, RenewRequest(ttl=ttl[:40] or None), principal=caller, limits=limits, now=now
            )
    except LeasingError as error:
        return _lease(
            request, unit, caller, now, core, lease, "lease.html", status=409, fault=str(error), ttl=ttl
        )
    return RedirectResponse(f"/leases/{lease.id}", 303)


@router.post("/leases/{ref}/keep")
def keep(
    ref: str, request: Request, unit: Unit, caller: Caller, now: Now, core: Core,
    typed: Annotated[keeping.Typed, Form()],
) -> Response:  # fmt: skip
    lease = leases.find(unit, ref, principal=caller, action=Action.CHANGE, lock=True)
    try:
        keeping.ask(unit, lease, typed, principal=caller, now=now)
    except Refused as refused:
        return _lease(
            request,
            unit,
            caller,
            now,
            core,
            lease,
            "lease.html",
            status=409,
            keep=typed,
            faults=refused.faults,
        )
    return RedirectResponse(f"/leases/{lease.id}", 303)


@router.post("/leases/{ref}/unkeep")
def unkeep(ref: str, unit: Unit, caller: Caller, now: Now) -> Response:
    lease = leases.find(unit, ref, principal=caller, action=Action.CHANGE, lock=True)
    keeps.end(unit, lease, principal=caller, now=now)
    return RedirectResponse(f"/leases/{lease.id}", 303)


@router.get("/open/{ref}")
def open_endpoint(ref: str, unit: Unit, caller: Caller, now: Now, core: Core) -> Response:
    """To the endpoint, which lives on another origin, with a ticket that is good once."""
    lease = leases.find(unit, ref, principal=caller, action=Action.CALL)
    if lease.port is None:
        raise Invalid(f"Lease {lease.name!r} was asked for without a port.")
    ticket = tickets.issue(
        unit, user_id=caller.user_id, lease_id=lease.id, opened_by=caller.token_id, now=now
    )
    return RedirectResponse(
        f"{core.endpoint_url(lease.name)}.leasing/enter?{urlencode({'ticket': ticket})}", 303
    )


def _lease(
    request: Request, unit: Unit, caller: Caller, now: Now, core: Core, lease: Lease, template: str, *,
    status: int = 200, fault: str = "", refused: str = "", ttl: str = "1h",
    keep: keeping.Typed = keeping.Typed(), faults: Mapping[str, str] = MappingProxyType({}),
) -> Response:  # fmt: skip
    return page(
        request, template, caller, status,
        lease=views.lease_out(unit, lease, principal=caller, now=now, endpoints=core.endpoint_url),
        events=event_views.newest(unit, lease.id, EVENTS), most_events=EVENTS,
        over=lease.state == LeaseState.ENDED, stoppable=lease.state != LeaseState.ENDED and lease.goal != Goal.ENDED,
        fault=fault, refused=refused, ttl=ttl, keep=keep, faults=faults, keep_ttl=keeping.TTL,
        unkept=keeps.last_end(unit, lease), access=access.of(unit, lease, caller),
    )  # fmt: skip


def _form(
    request: Request, unit: Unit, caller: Caller, now: Now, limits: Limits, typed: form.Typed,
    faults: dict[str, str],
) -> Response:  # fmt: skip
    return page(
        request, "new.html", caller, 422 if faults else 200, typed=typed, faults=faults, limits=limits,
        offers=offers.offers(unit, now=now), catalogue=request.app.state.catalogue,
        projects=projects.mine(unit, principal=caller),
    )  # fmt: skip
