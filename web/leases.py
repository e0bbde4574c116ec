"""My leases, one lease live, and a new one."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from api.deps import Caller, Core, Limits, Now, Unit
from leasing.errors import Invalid, LeasingError
from leasing.schema.lease import LeaseRequest, RenewRequest
from leasing.service import cluster, leases, tickets, views
from web.render import page

router = APIRouter()


@router.get("/")
def home(request: Request, unit: Unit, caller: Caller, now: Now, core: Core, all: bool = False) -> Response:  # noqa: A002 - the query's word
    """htmx asks again every two seconds, for the table only."""
    found = views.lease_page(
        unit, principal=caller, everyone=all, ended=False, state=None, cursor=None, limit=200, now=now,
        gateway_url=core.gateway_url,
    )  # fmt: skip
    ended = views.lease_page(
        unit, principal=caller, everyone=all, ended=True, state="ended", cursor=None, limit=10, now=now,
        gateway_url=core.gateway_url,
    )  # fmt: skip
    template = "_leases.html" if "hx-request" in request.headers else "home.html"
    return page(request, template, caller, live=found.items, ended=ended.items, everyone=all)


@router.get("/new")
def ask(request: Request, unit: Unit, caller: Caller, now: Now, limits: Limits) -> Response:
    return _form(request, unit, caller, now, limits, {}, "")


@router.post("/new")
def make(
    request: Request,
    unit: Unit,
    caller: Caller,
    now: Now,
    limits: Limits,
    name: Annotated[str, Form(max_length=80)] = "",
    image: Annotated[str, Form(max_length=512)] = "",
    gpu: Annotated[str, Form(max_length=80)] = "0",
    cpus: Annotated[str, Form(max_length=20)] = "",
    memory: Annotated[str, Form(max_length=20)] = "",
    ttl: Annotated[str, Form(max_length=40)] = "",
    idle: Annotated[str, Form(max_length=40)] = "",
    port: Annotated[str, Form(max_length=5)] = "",
    workspace: Annotated[str, Form(max_length=80)] = "",
    command: Annotated[str, Form(max_length=4000)] = "",
) -> Response:
    """What is refused comes back in the form, as it was filled in, with the reason."""
    given = {
        "name": name, "image": image, "gpu": gpu, "cpus": cpus, "memory": memory, "ttl": ttl, "idle": idle,
        "port": port, "workspace": workspace, "command": command,
    }  # fmt: skip
    try:
        with unit.begin_nested():
            wish = LeaseRequest(
                name=name or None, image=image or None, gpu=gpu or "0", cpus=cpus or None, memory=memory or None,
                ttl=ttl or None, idle_timeout=idle or None, port=_port(port), workspace=workspace or None,
                command=["sh", "-c", command] if command.strip() else None,
            )  # fmt: skip
            lease = leases.request(unit, wish, principal=caller, limits=limits, idempotency_key=None, now=now)
    except ValidationError as error:
        return _form(request, unit, caller, now, limits, given, str(error.errors()[0]["msg"]))
    except LeasingError as error:
        return _form(request, unit, caller, now, limits, given, str(error))
    return RedirectResponse(f"/leases/{lease.name}", 303)


@router.get("/leases/{ref}")
def show(ref: str, request: Request, unit: Unit, caller: Caller, now: Now, core: Core) -> Response:
    lease = leases.find(unit, ref, principal=caller)
    facts = views.lease_out(unit, lease, now=now, gateway_url=core.gateway_url)
    events = views.event_page(unit, lease_id=lease.id, after_id=0, limit=100).items
    template = "_lease.html" if "hx-request" in request.headers else "lease.html"
    return page(request, template, caller, lease=facts, events=events, error="")


@router.post("/leases/{ref}/release")
def release(ref: str, unit: Unit, caller: Caller, now: Now) -> Response:
    lease = leases.find(unit, ref, principal=caller, lock=True)
    leases.release(unit, lease, principal=caller, now=now)
    return RedirectResponse(f"/leases/{lease.id}", 303)


@router.post("/leases/{ref}/extend")
def extend(
    ref: str, request: Request, unit: Unit, caller: Caller, now: Now, limits: Limits, core: Core,
    ttl: Annotated[str, Form(max_length=40)],
) -> Response:  # fmt: skip
    lease = leases.find(unit, ref, principal=caller, lock=True)
    try:
        leases.renew(unit, lease, RenewRequest(ttl=ttl), principal=caller, limits=limits, now=now)
    except LeasingError as error:
        facts = views.lease_out(unit, lease, now=now, gateway_url=core.gateway_url)
        events = views.event_page(unit, lease_id=lease.id, after_id=0, limit=100).items
        return page(request, "lease.html", caller, 409, lease=facts, events=events, error=str(error))
    return RedirectResponse(f"/leases/{lease.id}", 303)


@router.get("/open/{ref}")
def open_endpoint(ref: str, unit: Unit, caller: Caller, now: Now, core: Core) -> Response:
    """To the endpoint, which lives on another origin, with a ticket that is good once."""
    lease = leases.find(unit, ref, principal=caller)
    if lease.port is None:
        raise Invalid(f"Lease {lease.name!r} was asked for without a port.")
    ticket = tickets.issue(unit, user_id=caller.user_id, lease_id=lease.id, now=now)
    return RedirectResponse(
        f"{core.gateway_url}/l/{lease.name}/.leasing/enter?{urlencode({'ticket': ticket})}", 303
    )


def _form(
    request: Request, unit: Unit, caller: Caller, now: Now, limits: Limits, given: dict[str, str], error: str
) -> Response:
    return page(
        request, "new.html", caller, 422 if error else 200, given=given, error=error, limits=limits,
        offers=cluster.offers(unit, now=now), catalogue=request.app.state.catalogue,
    )  # fmt: skip


def _port(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise Invalid(f"{text!r} is not a port.", hint="For example: 8000.")
    return int(text)
