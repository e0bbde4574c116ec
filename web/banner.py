"""The banner over every page: what is going to happen to the visitor's leases, with the one click that puts it off."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from api.deps import Caller, Now, Unit
from leasing.service import notices
from web.render import page

PATH = "/notices"


def look(request: Request, unit: Unit, caller: Caller, now: Now) -> None:
    """For every page. What htmx asks for is a part of one, which has the banner already."""
    if "hx-request" not in request.headers or request.url.path == PATH:
        request.state.notices = notices.of_user(unit, caller.user_id, now=now)


LOOK = Depends(look)

router = APIRouter()


@router.get(PATH)
def banner(request: Request, caller: Caller, _: Annotated[None, LOOK]) -> Response:
    """htmx asks again every fifteen seconds, from every page."""
    return page(request, "_notices.html", caller)
