"""The page of a policy that is tried before it is made."""

from __future__ import annotations

import threading

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.deps import Limits, only_admins, signed_in
from leasing.errors import Unavailable
from leasing.service import policymaking
from web import banner, policies, policy_form, policy_trial
from web.refusals import Refused
from web.render import page

router = APIRouter()
PLAYING = threading.Lock()
"""Held while one is played."""


@router.post("/try-policy")
def attempt(request: Request, limits: Limits, sent: policies.Filled) -> Response:
    """Nothing is made. It is read in a unit of work of its own, and played after that: no transaction waits so long.

    One at a time, for it is this process's own time. Raises `Unavailable` while another is played.
    """
    if not PLAYING.acquire(blocking=False):
        raise Unavailable(
            "Another policy is being tried just now.", hint="Go back, and try again in a moment."
        )
    try:
        with request.app.state.sessions.begin() as session:
            found = signed_in(request, session)
            caller = only_admins(found.principal)
            banner.look(request, session, caller, found.now)
            policy = policymaking.show(session, sent.was) if sent.was else None
            facts = policies.facts(request, session, caller, sent, policy)
            try:
                rule = policy_form.tried(
                    session, sent, environments=policies.known(request), principal=caller, limits=limits
                )
            except Refused as refused:
                return page(request, "policy.html", caller, 422, **facts | {"faults": refused.faults})
            record = policy_trial.read(session, sent, rule, days=sent.days, limits=limits, now=found.now)
        return page(request, "policy.html", caller, **facts | {"trial": policy_trial.play(record)})
    finally:
        PLAYING.release()
