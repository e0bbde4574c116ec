"""Nodes and devices, and who holds them."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.deps import Caller, Now, Unit
from leasing.service import cluster, views
from web.render import page

router = APIRouter()


@router.get("/machines")
def machines(request: Request, unit: Unit, caller: Caller, now: Now) -> Response:
    """htmx asks again every few seconds."""
    template = "_machines.html" if "hx-request" in request.headers else "machines.html"
    return page(
        request, template, caller, nodes=cluster.nodes(unit, now=now).items,
        devices=cluster.devices(unit, now=now).items, queue=views.queue(unit, now=now),
    )  # fmt: skip
