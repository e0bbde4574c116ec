"""May this visitor reach that endpoint now? Pure: the one rule for every data plane."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from api.gateway.grants import Target, Visitor
from leasing import access
from leasing.access import Action, Scope, Standing
from leasing.states import RESTING, TRANSITIONAL, LeaseState


class Refusal(Enum):
    """Why not: status, code, and the sentence, with the lease's name and state to fill in."""

    NOT_SIGNED_IN = (401, "not_signed_in", "Bring a token: Authorization: Bearer …")
    OTHER_LEASE = (403, "not_allowed", "That token is for another lease, not for {name!r}.")
    NOT_YOURS = (403, "not_allowed", "Lease {name!r} is somebody else's.")
    NOT_SHARED = (403, "not_allowed", "Lease {name!r} is not shared with its project: lease share {name}")
    INSIDE = (
        403,
        "not_allowed",
        "What lease {name!r} serves is a way into it, as a notebook is: that takes a developer of its project.",
    )
    UNKNOWN = (404, "not_found", "There is no lease {name!r}.")
    ENDED = (404, "gone", "Lease {name!r} has ended: {message}.")
    NO_PORT = (404, "no_endpoint", "Lease {name!r} has no endpoint: it was asked for without a port.")
    NOT_RUNNING = (503, "not_running", "Lease {name!r} is {state}; its endpoint answers when it runs.")


@dataclass(frozen=True)
class Upstream:
    """Where to go."""

    host: str
    port: int


BECAUSE = {
    access.Refusal.OTHER_LEASE: Refusal.OTHER_LEASE,
    access.Refusal.SOMEBODY_ELSES: Refusal.NOT_YOURS,
    access.Refusal.NOT_SHARED: Refusal.NOT_SHARED,
    access.Refusal.ROLE: Refusal.INSIDE,
}
"""What may be said against a call; every member of a project may call what is shared with it, whatever their role."""


def authorise(visitor: Visitor | None, target: Target | None) -> Upstream | Refusal:
    """Who is not signed in learns nothing, not even which leases there are; who may not call one, only that.

    Whose token is for one lease learns of no other.
    """
    if visitor is None:
        return Refusal.NOT_SIGNED_IN
    if target is None:
        return Refusal.UNKNOWN if visitor.lease_id is None else Refusal.OTHER_LEASE
    stands = standing(visitor, target)
    refused = access.decide(Action.CALL, stands)
    if refused is None and target.endpoint.inside:  # whichever of their tokens they bring
        refused = access.decide(Action.ENTER, replace(stands, scope=Scope.FULL))
    if refused is not None:
        return BECAUSE[refused]
    state = LeaseState(target.state)
    if state is LeaseState.ENDED:
        return Refusal.ENDED
    if target.port is None:
        return Refusal.NO_PORT
    if state in TRANSITIONAL | RESTING or target.address is None:
        return Refusal.NOT_RUNNING
    return Upstream(target.address, target.port)


def standing(visitor: Visitor, target: Target) -> Standing:
    """How the visitor stands to the lease."""
    scope = Scope.FULL
    if visitor.lease_id is not None:
        scope = Scope.THIS if visitor.lease_id == target.lease_id else Scope.OTHER
    return Standing(
        owner=visitor.user_id == target.owner_id,
        admin=visitor.admin,
        role=visitor.roles.get(target.project_id),
        shared=target.shared,
        scope=scope,
    )
