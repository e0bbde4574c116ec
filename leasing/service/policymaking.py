"""Setting, showing and removing policies of reclaim; for admins. Every change leaves who made it, and what it was."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from leasing import names, policy_terms
from leasing.access import Action
from leasing.errors import Conflict, Gone, Invalid, NotFound
from leasing.model import LearnedWindow, Lease, Policy, Project, User
from leasing.reclaim import PLATFORM, Rule
from leasing.schema.policy import LearnedOut, LeasePolicyOut, PolicyIn, PolicyOut, PolicyPage
from leasing.service import events, leases, policies, projects
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import LeaseState

SUBJECT = ("project_id", "environment", "lease_id")
_ROWS = (
    sa.select(Policy, Project.name, Lease.name)
    .outerjoin(Project, Project.id == Policy.project_id)
    .outerjoin(Lease, Lease.id == Policy.lease_id)
)


def page(session: Session) -> PolicyPage:
    """Every policy, the more general first; where no admin made one for all, the platform's own leads."""
    made = [_out(session, *row) for row in session.execute(_ROWS.order_by(Policy.name))]
    made.sort(key=lambda one: (_rank(one.subject), one.name))
    if not made or made[0].subject != policies.ALL:
        made.insert(0, _as_said(Rule(), said=[], windows=[], updated_at=None))
    return PolicyPage(items=made)


def show(session: Session, name: str) -> PolicyOut:
    """Raises `NotFound`."""
    row = session.execute(_ROWS.where(Policy.name == name)).one_or_none()
    if row is None:
        raise NotFound(
            f"There is no policy {name[:60]!r}.", hint="lease admin policy ls shows what there is."
        )
    return _out(session, *row)


def put(
    session: Session,
    name: str,
    ask: PolicyIn,
    *,
    environments: Collection[str],
    principal: Principal,
    limits: LimitSettings,
    now: datetime,
    only_new: bool = False,
) -> PolicyOut:
    """Make the policy of that name, or set it anew, whole. It counts at once, also for leases that run.

    `environments` are those of the catalogue. Raises `Invalid`; `NotFound` for whom it is for; `Gone` for a lease that
    is over; `Conflict` if another policy is for the same, or has the name and this is to be `only_new`. Roll the
    transaction back then.
    """
    named(name)
    said = policy_terms.columns(ask, limits)
    whom = subject(session, ask, environments, principal)
    policy = session.execute(
        sa.select(Policy).where(Policy.name == name).with_for_update()
    ).scalar_one_or_none()
    new = policy is None
    if policy is not None and only_new:
        raise Conflict(
            f"There is a policy {name!r} already.", hint="Set that one anew, or take another name."
        )
    if policy is None:
        policy = Policy(name=name)
        session.add(policy)
        before: dict[str, Any] = dict.fromkeys((*SUBJECT, *policy_terms.FIELDS)) | {
            "learned": False,
            "thresholds": {},
        }
    else:
        before = {field: getattr(policy, field) for field in (*SUBJECT, *policy_terms.FIELDS)}
    changes = {
        field: (before[field], value) for field, value in (whom | said).items() if value != before[field]
    }
    for field, value in (whom | said).items():
        setattr(policy, field, value)
    if changes:
        policy.updated_at = now
    try:
        session.flush()
    except IntegrityError as error:
        again = "uq_policy_name" in str(error.orig)
        raise Conflict(
            f"Policy {name!r} was made by somebody else just now."
            if again
            else f"There is a policy for the same already, so {name!r} cannot be for it too.",
            hint="See lease admin policy ls, and set or remove that one.",
        ) from error
    if changes or new:
        _record(session, "set", policy, changes, principal)
    return show(session, name)


def remove(session: Session, name: str, *, principal: Principal) -> None:
    """The next more general policy counts at once. Raises `NotFound`."""
    policy = session.execute(
        sa.select(Policy).where(Policy.name == name).with_for_update()
    ).scalar_one_or_none()
    if policy is None:
        raise NotFound(
            f"There is no policy {name[:60]!r}.", hint="lease admin policy ls shows what there is."
        )
    changes = {
        field: (value, None)
        for field in (*SUBJECT, *policy_terms.FIELDS)
        if _says(value := getattr(policy, field))
    }
    _record(session, "removed", policy, changes, principal)
    session.delete(policy)
    session.flush()


def for_leases(session: Session, found: Sequence[Lease]) -> dict[UUID, LeasePolicyOut]:
    """What counts for each of the leases, as their owners see it."""
    rules = policies.effective(session, found)
    said: dict[tuple[object, ...], LeasePolicyOut] = {}
    return {
        lease_id: said.setdefault((rule.policy, rule.window_seconds, rule.gaps), _for_lease(rule))
        for lease_id, rule in rules.items()
    }


def _for_lease(rule: Rule) -> LeasePolicyOut:
    return LeasePolicyOut(
        name=rule.policy,
        subject=rule.subject,
        said=str(rule),
        action=rule.action,
        window_seconds=rule.window_seconds,
        warnings=list(rule.warnings),
    )


def named(name: str) -> str:
    """`name` if a policy may be called so. Raises `Invalid`."""
    if names.lease_name(name) == PLATFORM:
        raise Invalid(
            f"{PLATFORM!r} is what counts where there is no policy.", hint="Call it house, for example."
        )
    return name


def subject(
    session: Session, ask: PolicyIn, environments: Collection[str], principal: Principal
) -> dict[str, Any]:
    """The columns that say for whom it is. Raises `Invalid`, `NotFound`, and `Gone` for a lease that is over."""
    given = [one for one in (ask.project, ask.environment, ask.lease) if one is not None]
    if len(given) > 1:
        raise Invalid(
            "A policy is for one project, one environment, one lease, or all.",
            hint="Make one policy for each: --project, --environment or --lease",
        )
    found: dict[str, Any] = dict.fromkeys(SUBJECT)
    if ask.project is not None:
        found["project_id"] = projects.find(session, ask.project).id
    if ask.environment is not None:
        found["environment"] = _environment(ask.environment, environments)
    if ask.lease is not None:
        lease = leases.find(session, ask.lease, principal=principal, action=Action.SEE)
        if lease.state == LeaseState.ENDED:
            raise Gone(f"Lease {lease.name!r} has ended.", hint="lease ls --everyone shows the live ones.")
        found["lease_id"] = lease.id
    return found


def _environment(text: str, environments: Collection[str]) -> str:
    """An environment of the catalogue, or what can only be an image's reference."""
    reference = ("/" in text or ":" in text) and text.isprintable() and " " not in text
    if text not in environments and not (reference and not text.startswith("-")):
        raise NotFound(
            f"There is no environment {text[:60]!r}.",
            hint="lease images shows the catalogue; an image is named with its tag: team/train:2",
        )
    return text


def _record(
    session: Session, what: str, policy: Policy, changes: dict[str, tuple[Any, Any]], principal: Principal
) -> None:
    plain = {field: [_plain(old), _plain(new)] for field, (old, new) in changes.items()}
    said = ", ".join(f"{field} {_word(old)} → {_word(new)}" for field, (old, new) in plain.items())
    events.record(
        session,
        f"policy.{what}",
        f"{principal.name} {what} policy {policy.name}{f': {said}' if said else ''}",
        actor=principal.actor,
        lease_id=policy.lease_id,
        data={"policy": policy.name, "changes": plain},
    )


def _says(value: Any) -> bool:
    """Whether a column says something of its own; 0 does."""
    return value is not None and value is not False and value != {}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


def _word(value: Any) -> str:
    return "-" if value is None else str(value)


def _rank(subject: str) -> int:
    order = (policies.ALL, policies.ENVIRONMENTS, policies.PROJECTS, policies.LEASES)
    return order.index(subject.partition("/")[0])


def _out(session: Session, policy: Policy, project: str | None, lease: str | None) -> PolicyOut:
    rule = policies.rule(policy, policies.subject_of(policy, project, lease))
    said = [field for field in policy_terms.FIELDS if _says(getattr(policy, field))]
    return _as_said(
        rule,
        said=said,
        windows=_windows(session, policy.id) if policy.learned else [],
        updated_at=policy.updated_at,
    )


def _windows(session: Session, policy_id: UUID) -> list[LearnedOut]:
    rows = session.execute(
        sa.select(LearnedWindow, User.name, Project.name)
        .join(User, User.id == LearnedWindow.owner_id)
        .join(Project, Project.id == LearnedWindow.project_id)
        .where(LearnedWindow.policy_id == policy_id)
        .order_by(User.name, Project.name, LearnedWindow.environment)
    )
    return [
        LearnedOut(
            user=user,
            project=project,
            environment=one.environment,
            window_seconds=one.window_seconds,
            gaps=one.gaps,
            learned_at=one.learned_at,
        )
        for one, user, project in rows
    ]


def _as_said(
    rule: Rule, *, said: list[str], windows: list[LearnedOut], updated_at: datetime | None
) -> PolicyOut:
    return PolicyOut(
        **policy_terms.rule_out(rule).model_dump(), set=said, windows=windows, updated_at=updated_at
    )
