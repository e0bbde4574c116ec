"""Signing in by a one-time link, and out."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from api.deps import COOKIE, Caller, Core, Now, Unit, check_origin
from api.revoking import Settle
from leasing.database import now as database_now
from leasing.errors import NotSignedIn
from leasing.model import TokenKind
from leasing.service import people
from web.render import page

router = APIRouter()


@router.get("/signin")
def ask(request: Request, secret: str = "", wanted: Annotated[str, Query(alias="next")] = "/") -> Response:
    """A button rather than the deed: mail scanners and previews open links, and would use them up."""
    return page(request, "signin.html", None, secret=secret[:200], wanted=_own(wanted), error="")


@router.post("/signin")
def sign_in(
    request: Request, unit: Unit, core: Core, secret: Annotated[str, Form(max_length=200)],
    wanted: Annotated[str, Form(alias="next")] = "/",
) -> Response:  # fmt: skip
    """On to the page that was asked for before."""
    check_origin(request)
    try:
        moment = database_now(unit)
        _, session = people.sign_in(unit, secret.strip(), TokenKind.SESSION, _browser(request), now=moment)
    except NotSignedIn as error:
        return page(request, "signin.html", None, 401, secret="", wanted=_own(wanted), error=str(error))
    answer = RedirectResponse(_own(wanted), 303)
    answer.set_cookie(
        COOKIE, session, httponly=True, samesite="lax", secure=core.tls,
        max_age=int(people.SESSION_LASTS.total_seconds()),
    )  # fmt: skip
    return answer


@router.post("/signout")
def sign_out(unit: Unit, caller: Caller, now: Now, settle: Settle) -> Response:
    """Of the endpoints that were opened from here too."""
    people.revoke_token(unit, caller, caller.token_id, now=now)
    settle()
    answer = RedirectResponse("/signin", 303)
    answer.delete_cookie(COOKIE)
    return answer


def _own(wanted: str) -> str:
    """That address if it is one of our pages, else the first page."""
    return wanted if re.fullmatch(r"/(?!/)[!-\[\]-~]{0,2000}", wanted) else "/"


def _browser(request: Request) -> str:
    agent = request.headers.get("user-agent", "")
    name = next((one for one in ("Firefox", "Edg", "Chrome", "Safari") if one in agent), "browser")
    return f"browser: {name}"
