"""A terminal in the browser."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.deps import Caller, Unit
from leasing.access import Action
from leasing.service import leases
from web.render import page

router = APIRouter()


@router.get("/leases/{ref}/terminal")
def terminal(ref: str, request: Request, unit: Unit, caller: Caller) -> Response:
    """The page alone: its script opens the terminal, and is told there if it cannot be."""
    lease = leases.find(unit, ref, principal=caller, action=Action.ENTER)
    return page(request, "terminal.html", caller, lease=lease)
