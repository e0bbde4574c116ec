"""Waking: a lease that was suspended as idle is resumed by a call of its endpoint, if it was told so."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from leasing.access import Action
from leasing.errors import NotFound
from leasing.model import Lease
from leasing.schema.endpoint import EndpointOptions
from leasing.schema.lease import WhyOut
from leasing.service import standings, suspension, views
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import LeaseState, SuspendReason

HOW = "woke it by a call"


def wake(
    session: Session, lease_id: UUID, *, principal: Principal, limits: LimitSettings, now: datetime
) -> bool:
    """Let it queue again, under the rules of `suspension.resume`. Whether it slept, and so could be woken.

    Whoever may call it may wake it: its owner has said so. Raises `NotFound`, `NotAllowed`, `OverQuota`, and `Conflict`
    if its workspace has another writer by now.
    """
    lease = session.get(Lease, lease_id, with_for_update={"key_share": True}, populate_existing=True)
    if lease is None:
        raise NotFound("That lease is gone.")
    standings.check(session, lease, Action.CALL, principal=principal)
    told = lease.port is not None and EndpointOptions.model_validate(lease.endpoint).wake
    if not told or lease.state != LeaseState.SUSPENDED or lease.suspend_reason != SuspendReason.IDLE:
        return False
    suspension.resume(session, lease, principal=principal, limits=limits, now=now, how=HOW)
    return True


def outlook(session: Session, lease_id: UUID, *, now: datetime) -> WhyOut | None:
    """Where it is on its way, and when it is expected; None once it is gone."""
    lease = session.get(Lease, lease_id)
    return None if lease is None else views.why(session, lease, now=now)
