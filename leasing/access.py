"""Who may do what with a lease: the one decision, for pages, api, streams and gateway alike. Pure.

    of a lease that is      owner, admins   project's owner   developer   viewer   anybody else
    not shared              all             see               –           –        –
    shared                  all             all               to change   to call  –

Each action includes those before it in `Action`. A token for one lease opens that lease's endpoint and nothing else,
whoever made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from leasing.states import ProjectRole


class Action(StrEnum):
    """What somebody wants of a lease, the least first."""

    SEE = "see"
    """Read what it is, its events and its log."""
    CALL = "call"
    """Ask its endpoint; make a token that does, and take it back."""
    ENTER = "enter"
    """Work inside: terminal, command, files, SSH, notebook."""
    CHANGE = "change"
    """Extend, suspend, resume, restart, keep it, and set its endpoint's options."""
    RELEASE = "release"
    """Give it back."""
    SHARE = "share"
    """Say whether its project may use it, and see and revoke every token for it."""


class Scope(Enum):
    """How far the caller's token goes."""

    FULL = "full"
    """As far as its user."""
    THIS = "this"
    """It is for this lease's endpoint."""
    OTHER = "other"
    """It is for another lease's endpoint."""


class Refusal(Enum):
    """Why not."""

    OTHER_LEASE = "other_lease"
    """The token is for another lease."""
    ENDPOINT_ONLY = "endpoint_only"
    """The token opens the endpoint, and nothing else."""
    SOMEBODY_ELSES = "somebody_elses"
    """The lease is none of the caller's, nor of their projects."""
    NOT_SHARED = "not_shared"
    """It is one of the caller's project, whose owner keeps it to themselves."""
    ROLE = "role"
    """The caller's role in its project does not go so far."""


@dataclass(frozen=True)
class Standing:
    """How somebody stands to a lease."""

    owner: bool
    """They asked for it."""
    admin: bool
    role: ProjectRole | None
    """Theirs in the lease's project; None for who does not belong to it."""
    shared: bool
    """The lease, with its project."""
    scope: Scope = Scope.FULL


NEEDS = {
    Action.SEE: ProjectRole.VIEWER,
    Action.CALL: ProjectRole.VIEWER,
    Action.ENTER: ProjectRole.DEVELOPER,
    Action.CHANGE: ProjectRole.DEVELOPER,
    Action.RELEASE: ProjectRole.OWNER,
    Action.SHARE: ProjectRole.OWNER,
}
"""The least role in its project for each action on a shared lease."""
RANK = {ProjectRole.VIEWER: 1, ProjectRole.DEVELOPER: 2, ProjectRole.OWNER: 3}


def decide(action: Action, standing: Standing) -> Refusal | None:
    """Why they may not; None if they may."""
    if standing.scope is Scope.OTHER:
        return Refusal.OTHER_LEASE
    if standing.scope is Scope.THIS and action is not Action.CALL:
        return Refusal.ENDPOINT_ONLY
    if standing.owner or standing.admin:
        return None
    if standing.role is None:
        return Refusal.SOMEBODY_ELSES
    if not standing.shared:
        oversees = standing.role is ProjectRole.OWNER and action is Action.SEE
        return None if oversees else Refusal.NOT_SHARED
    return None if RANK[standing.role] >= RANK[NEEDS[action]] else Refusal.ROLE


def may(standing: Standing) -> list[Action]:
    """All that they may do, in the order of `Action`."""
    return [action for action in Action if decide(action, standing) is None]


def words(refusal: Refusal, action: Action, name: str) -> tuple[str, str]:
    """What the refused are told of the lease `name`, and what would help."""
    match refusal:
        case Refusal.OTHER_LEASE:
            return (
                f"That token is for another lease, not for {name!r}.",
                f"Make one for it: lease token create {name}",
            )
        case Refusal.ENDPOINT_ONLY:
            return (
                f"That token opens the endpoint of {name!r} and nothing else.",
                "Sign in: lease login URL",
            )
        case Refusal.SOMEBODY_ELSES:
            return f"Lease {name!r} is somebody else's.", "lease ls shows yours."
        case Refusal.NOT_SHARED:
            return (
                f"Lease {name!r} is not shared with its project.",
                f"Who asked for it can share it: lease share {name}",
            )
        case Refusal.ROLE:
            return (
                f"Your role in the project of {name!r} does not go so far: to {action} it takes {NEEDS[action]}.",
                f"An owner can give it to you: lease projects add PROJECT YOU --role {NEEDS[action]}",
            )
