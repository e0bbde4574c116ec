"""The page behind a warning's link: one button, for whoever has the link."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.deps import Core, Limits, Unit
from leasing.database import now as database_now
from leasing.errors import Gone, LeasingError, NotFound
from leasing.secrets import signing_key
from leasing.service import clicks, links
from leasing.settings.core import CoreSettings
from web.render import page

router = APIRouter()


@router.get("/extend/{link}")
def ask(link: str, request: Request, unit: Unit, core: Core) -> Response:
    """A button rather than the deed: mail scanners and previews open links."""
    try:
        offer = clicks.look(unit, _key(core), link, now=database_now(unit))
    except (Gone, NotFound) as error:
        return _said(request, error, 404 if isinstance(error, NotFound) else 410)
    return page(request, "extend.html", None, offer=offer, said=offer.said, hint="")


@router.post("/extend/{link}")
def extend(link: str, request: Request, unit: Unit, core: Core, limits: Limits) -> Response:
    """Needs no cookie and looks at none: what may be done is in the link, and another site that sends a visitor here
    would have to know it."""
    try:
        with unit.begin_nested():
            said = clicks.act(unit, _key(core), link, limits=limits, now=database_now(unit))
    except LeasingError as error:
        status = {NotFound: 404, Gone: 410}.get(type(error), 409)
        return _said(request, error, status)
    return page(request, "extend.html", None, offer=None, said=said, hint="")


def _said(request: Request, error: LeasingError, status: int) -> Response:
    return page(request, "extend.html", None, status, offer=None, said=error.message, hint=error.hint or "")


def _key(core: CoreSettings) -> bytes:
    return signing_key(core.secret_key_file(), links.PURPOSE)
