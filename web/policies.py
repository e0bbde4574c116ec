"""Policies of reclaim, for admins: which one counts for whom, made and set anew, tried on the last days, deleted."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import Field
from sqlalchemy.orm import Session

from api.deps import Admin, Limits, Now, Unit
from leasing.errors import NotFound
from leasing.policy_words import for_whom, working, written
from leasing.reclaim import Rule
from leasing.schema.policy import PolicyOut
from leasing.service import policies, policymaking, projects
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from web import policy_form
from web.policy_form import Typed
from web.refusals import Refused
from web.render import page

router = APIRouter()


class Sent(Typed):
    """The form as it is sent."""

    was: str = ""
    """Which policy is set anew; a new one if it is empty."""
    days: Annotated[int, Field(ge=1, le=366)] = 7
    """To be tried on."""


Filled = Annotated[Sent, Form()]


@router.get("/policies")
def list_all(request: Request, unit: Unit, caller: Admin) -> Response:
    """The most general first."""
    return page(
        request, "policies.html", caller, items=policymaking.page(unit).items, counts=policies.in_force(unit),
        for_whom=for_whom, working=working, written=lambda one: written(one.model_dump()),
    )  # fmt: skip


@router.get("/new-policy")
def blank(request: Request, unit: Unit, caller: Admin) -> Response:
    return page(request, "policy.html", caller, **facts(request, unit, caller, Sent(), None))


@router.post("/new-policy")
def make(request: Request, unit: Unit, caller: Admin, now: Now, limits: Limits, sent: Filled) -> Response:
    """What is refused comes back in the form, as it was filled in, with the reasons."""
    return _take(request, unit, caller, now, limits, sent, None)


@router.get("/policies/{name}")
def show(name: str, request: Request, unit: Unit, caller: Admin) -> Response:
    policy = policymaking.show(unit, name)
    sent = Sent(**Typed.of(policy).model_dump())
    return page(request, "policy.html", caller, **facts(request, unit, caller, sent, policy))


@router.post("/policies/{name}")
def change(
    name: str, request: Request, unit: Unit, caller: Admin, now: Now, limits: Limits, sent: Filled
) -> Response:
    policy = policymaking.show(unit, name)
    return _take(request, unit, caller, now, limits, sent.model_copy(update={"name": policy.name}), policy)


@router.post("/policies/{name}/delete")
def delete(name: str, unit: Unit, caller: Admin) -> Response:
    """Twice is as good as once."""
    with suppress(NotFound):
        policymaking.remove(unit, name, principal=caller)
    return RedirectResponse("/policies", 303)


def known(request: Request) -> set[str]:
    """Environments of the catalogue."""
    return {one.name for one in request.app.state.catalogue}


def facts(
    request: Request, unit: Session, caller: Principal, sent: Sent, policy: PolicyOut | None
) -> dict[str, Any]:
    """What the form's page shows. `policy` is what is set anew."""
    return {
        "typed": sent,
        "policy": policy,
        "faults": {},
        "trial": None,
        "own": Rule(),
        "for_whom": for_whom,
        "whom": list(policy_form.WHOM),
        "counts": policies.in_force(unit)[policy.name] if policy else 0,
        "projects": [one.name for one in projects.mine(unit, principal=caller)],
        "environments": sorted(known(request)),
    }


def _take(
    request: Request, unit: Session, caller: Principal, now: datetime, limits: LimitSettings, sent: Sent,
    policy: PolicyOut | None,
) -> Response:  # fmt: skip
    try:
        policy_form.put(
            unit, sent, environments=known(request), principal=caller, limits=limits, now=now,
            only_new=policy is None,
        )  # fmt: skip
    except Refused as refused:
        shown = facts(request, unit, caller, sent, policy) | {"faults": refused.faults}
        return page(request, "policy.html", caller, 422, **shown)
    return RedirectResponse("/policies", 303)
