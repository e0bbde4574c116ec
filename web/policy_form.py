"""The form of a policy: what was typed becomes one, and a refusal is told beside the field it is about."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from leasing import policy_terms, policy_words
from leasing.errors import Conflict, Invalid, LeasingError
from leasing.reclaim import Rule
from leasing.schema.policy import PolicyIn, PolicyOut
from leasing.service import policies, policymaking
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from web.refusals import Refused, blamed, trial, words

WHOM = {"project": policies.PROJECTS, "environment": policies.ENVIRONMENTS, "lease": policies.LEASES}
"""Whom a policy may be for but all, and how its subject begins."""
TERMS = (
    "action", "window", "learned", "longest", "threshold", "grace", "warn", "hours", "protected", "retention",
)  # fmt: skip
DEPENDS = {"longest": ("window",), "learned": ("window",)}
"""Fields whose rule is another's: neither is allowed under every window."""


class Typed(BaseModel):
    """Every field as it was typed; empty is "as the platform's own"."""

    name: str = ""
    whom: str = ""
    """One of `WHOM`; all if it is empty."""
    which: str = ""
    """Its name."""
    action: str = ""
    window: str = ""
    learned: str = ""
    """Ticked or not."""
    longest: str = ""
    threshold: str = ""
    grace: str = ""
    warn: str = ""
    hours: str = ""
    protected: str = ""
    retention: str = ""

    @classmethod
    def of(cls, policy: PolicyOut) -> Typed:
        """As it would have to be typed to be that policy."""
        kind, _, which = policy.subject.partition("/")
        whom = next((word for word, begin in WHOM.items() if begin == kind), "")
        return cls(name=policy.name, whom=whom, which=which, **policy_words.written(policy.model_dump()))

    def only(self, term: str) -> Typed:
        """As if no other term had been filled in but what its rule depends on."""
        return Typed.model_validate({one: getattr(self, one) for one in (term, *DEPENDS.get(term, ()))})

    def said(self) -> dict[str, str]:
        """The terms that were filled in."""
        return {term: text for term in TERMS if (text := getattr(self, term).strip())}

    def subject(self) -> dict[str, str]:
        """Whom it is for, as the api takes it. Raises `Invalid`."""
        which = self.which.strip()
        if self.whom not in WHOM:
            if which:
                raise Invalid(f"A policy for all leases is not for {which[:60]!r}.", hint="Leave this empty.")
            return {}
        if not which:
            raise Invalid(f"For which {self.whom}?", hint="Type its name.")
        return {self.whom: which}

    def terms(self) -> PolicyIn:
        """What it says, as the api takes it, for all. Raises `Invalid`, `ValidationError`."""
        said: dict[str, Any] = self.said()
        if "threshold" in said:
            said["threshold"] = said["threshold"].replace(",", " ").split()
        return PolicyIn.model_validate(policy_words.terms(**said))

    def policy(self) -> PolicyIn:
        """All of it. Raises `Invalid`, `ValidationError`."""
        return PolicyIn.model_validate(self.terms().model_dump() | self.subject())


def put(
    session: Session,
    typed: Typed,
    *,
    environments: Collection[str],
    principal: Principal,
    limits: LimitSettings,
    now: datetime,
    only_new: bool,
) -> None:
    """Make the policy, or set it anew. Raises `Refused`."""
    name = typed.name.strip()
    try:
        with session.begin_nested():
            policymaking.put(
                session, name, typed.policy(), environments=environments, principal=principal, limits=limits,
                now=now, only_new=only_new,
            )  # fmt: skip
            return
    except (LeasingError, ValidationError) as error:
        whole, taken = words(error), isinstance(error, Conflict)
    faults = _faults(session, typed, environments, principal, limits)
    if said := trial(session, lambda: policymaking.named(name)):
        faults["name"] = said
    if taken:
        faults["name" if only_new and _exists(session, name) else "which"] = whole
    raise Refused(faults if whole in faults.values() else {"": whole} | faults)


def tried(
    session: Session,
    typed: Typed,
    *,
    environments: Collection[str],
    principal: Principal,
    limits: LimitSettings,
) -> Rule:
    """What it says, to be tried; nothing is made. Raises `Refused`."""
    if faults := _faults(session, typed, environments, principal, limits):
        raise Refused(faults)
    try:
        return policy_terms.rule("tried", policies.ALL, policy_terms.columns(typed.terms(), limits))
    except (LeasingError, ValidationError) as error:
        raise Refused({"": words(error)}) from None


def _faults(
    session: Session, typed: Typed, environments: Collection[str], principal: Principal, limits: LimitSettings
) -> dict[str, str]:
    """Which terms cannot be, and whom it cannot be for, each with the reason."""
    faults = blamed(
        typed.said(),
        lambda term: trial(session, lambda: policy_terms.columns(typed.only(term).terms(), limits)),
        DEPENDS,
    )
    whom = trial(
        session,
        lambda: policymaking.subject(
            session, PolicyIn.model_validate(typed.subject()), environments, principal
        ),
    )
    return faults | ({"which": whom} if whom else {})


def _exists(session: Session, name: str) -> bool:
    return not trial(session, lambda: policymaking.show(session, name))
