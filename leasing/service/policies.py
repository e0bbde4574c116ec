"""Policies of reclaim: which one counts for a lease."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import policy_terms
from leasing.model import LearnedWindow, Lease, Policy, Project
from leasing.reclaim import Rule
from leasing.states import LIVE, LeaseState

ALL, LEASES, PROJECTS, ENVIRONMENTS = "all", "leases", "projects", "environments"
"""What a policy's subject begins with."""
_Learned = Mapping[tuple[UUID, UUID, UUID, str], LearnedWindow]
_Made = tuple[Policy, Rule]

# Few enough to be read whole: one statement, whatever the number of leases.
_POLICIES = (
    sa.select(Policy, Project.name, Lease.name)
    .outerjoin(Project, Project.id == Policy.project_id)
    .outerjoin(Lease, Lease.id == Policy.lease_id)
    .where(sa.or_(Policy.lease_id.is_(None), Lease.state != LeaseState.ENDED))
)


class Governed(Protocol):
    """What decides which policy counts for a lease: its row, or these columns of it. Not yet written, it has no id."""

    @property
    def id(self) -> UUID | None: ...
    @property
    def owner_id(self) -> UUID: ...
    @property
    def project_id(self) -> UUID: ...
    @property
    def image(self) -> str: ...
    @property
    def idle_timeout_seconds(self) -> int | None: ...


def effective(session: Session, leases: Sequence[Governed]) -> dict[UUID, Rule]:
    """By what rule each of `leases` is taken back: that of its own policy, else of its project, else of its
    environment, else of all; and its own idle time over the policy's, as far as that lets it. At most two statements
    for any number of them."""
    if not leases:
        return {}
    made = _made(session)
    learned = _learned(session) if any(policy.learned for policy, _ in made.values()) else {}
    return {
        lease.id: _fitting(lease, made, learned).asked(lease.idle_timeout_seconds)
        for lease in leases
        if lease.id is not None
    }


def in_force(session: Session) -> Counter[str]:
    """By a policy's name, of how many live leases it decides."""
    live = session.execute(
        sa.select(Lease.id, Lease.owner_id, Lease.project_id, Lease.image, Lease.idle_timeout_seconds).where(
            Lease.state.in_(LIVE)
        )
    ).all()
    return Counter(rule.policy for rule in effective(session, live).values())


def for_ask(session: Session, lease: Governed) -> Rule:
    """The policy that will count for a lease that is only asked for, without what it asks itself."""
    return _fitting(lease, _made(session), {})


def rule(policy: Policy, subject: str = ALL) -> Rule:
    """What a policy says, the platform's values filled in."""
    said = {field: getattr(policy, field) for field in policy_terms.FIELDS}
    return policy_terms.rule(policy.name, subject, said)


def subject_of(policy: Policy, project: str | None, lease: str | None) -> str:
    """Whom it is for, as people write it."""
    if policy.lease_id is not None:
        return f"{LEASES}/{lease or policy.lease_id}"
    if policy.project_id is not None:
        return f"{PROJECTS}/{project}"
    return f"{ENVIRONMENTS}/{policy.environment}" if policy.environment is not None else ALL


def _made(session: Session) -> dict[tuple[str, object], _Made]:
    """Every policy that may count, by whom it is for."""
    found: dict[tuple[str, object], _Made] = {}
    for policy, project, lease in session.execute(_POLICIES):
        subject = subject_of(policy, project, lease)
        key = policy.lease_id or policy.project_id or policy.environment
        found[subject.partition("/")[0], key] = policy, rule(policy, subject)
    return found


def _learned(session: Session) -> _Learned:
    return {
        (one.policy_id, one.owner_id, one.project_id, one.environment): one
        for one in session.execute(sa.select(LearnedWindow)).scalars()
    }


def _fitting(lease: Governed, made: Mapping[tuple[str, object], _Made], learned: _Learned) -> Rule:
    keys: tuple[tuple[str, object], ...] = (
        (LEASES, lease.id),
        (PROJECTS, lease.project_id),
        (ENVIRONMENTS, lease.image),
        (ALL, None),
    )
    fits = next((made[key] for key in keys if key in made), None)
    if fits is None:
        return Rule()
    policy, said = fits
    taught = (
        learned.get((policy.id, lease.owner_id, lease.project_id, lease.image)) if policy.learned else None
    )
    if taught is None:
        return said
    return replace(said, window_seconds=min(taught.window_seconds, said.window_seconds), gaps=taught.gaps)
