"""May this visitor reach that endpoint now? Pure: the one rule for every data plane."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from api.gateway.grants import Target, Visitor
from leasing.states import RESTING, TRANSITIONAL, LeaseState


class Refusal(Enum):
    """Why not: status, code, and the sentence, with the lease's name and state to fill in."""

    NOT_SIGNED_IN = (401, "not_signed_in", "Bring a token: Authorization: Bearer …")
    NOT_YOURS = (403, "not_allowed", "Lease {name!r} is somebody else's.")
    UNKNOWN = (404, "not_found", "There is no lease {name!r}.")
    ENDED = (404, "gone", "Lease {name!r} has ended: {message}.")
    NO_PORT = (404, "no_endpoint", "Lease {name!r} has no endpoint: it was asked for without a port.")
    NOT_RUNNING = (503, "not_running", "Lease {name!r} is {state}; its endpoint answers when it runs.")


@dataclass(frozen=True)
class Upstream:
    """Where to go."""

    host: str
    port: int


def authorise(visitor: Visitor | None, target: Target | None) -> Upstream | Refusal:
    """Who is not signed in learns nothing, not even which leases there are; who is not the owner, only that."""
    if visitor is None:
        return Refusal.NOT_SIGNED_IN
    if target is None:
        return Refusal.UNKNOWN
    if visitor.lease_id is not None and visitor.lease_id != target.lease_id:
        return Refusal.NOT_YOURS
    if visitor.user_id != target.owner_id and not visitor.admin:
        return Refusal.NOT_YOURS
    state = LeaseState(target.state)
    if state is LeaseState.ENDED:
        return Refusal.ENDED
    if target.port is None:
        return Refusal.NO_PORT
    if state in TRANSITIONAL | RESTING or target.address is None:
        return Refusal.NOT_RUNNING
    return Upstream(target.address, target.port)
