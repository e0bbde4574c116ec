"""Policies of reclaim: which one counts for a lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import time
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.model import Lease, Policy
from leasing.reclaim import Hours, Rule
from leasing.states import ReclaimAction


def effective(session: Session, leases: Sequence[Lease]) -> dict[UUID, Rule]:
    """By what rule each of `leases` is taken back: that of its own policy, else of its project, else of its
    environment, else of all; and its own idle time over the policy's. One statement for any number of them."""
    if not leases:
        return {}
    policies = session.execute(
        sa.select(Policy).where(
            sa.or_(
                Policy.lease_id.in_([lease.id for lease in leases]),
                Policy.project_id.in_({lease.project_id for lease in leases}),
                Policy.environment.in_({lease.image for lease in leases}),
                sa.func.num_nonnulls(Policy.project_id, Policy.environment, Policy.lease_id) == 0,
            )
        )
    ).scalars()
    found = {(policy.lease_id, policy.project_id, policy.environment): rule(policy) for policy in policies}
    platform = Rule()
    return {lease.id: _own(lease, _fitting(lease, found) or platform) for lease in leases}


def rule(policy: Policy) -> Rule:
    """What a policy says, the platform's values filled in."""
    said: dict[str, Any] = {
        "action": ReclaimAction(policy.action) if policy.action else None,
        "window_seconds": policy.window_seconds,
        "grace_seconds": policy.grace_seconds,
        "warnings": tuple(sorted(policy.warnings, reverse=True)) if policy.warnings is not None else None,
        "hours": _hours(policy.hours) if policy.hours is not None else None,
        "protected_seconds": policy.protected_seconds,
        "retention_seconds": policy.retention_seconds,
    }
    return replace(
        Rule(policy=policy.name, learned=policy.learned, thresholds=policy.thresholds),
        **{name: value for name, value in said.items() if value is not None},
    )


def _fitting(lease: Lease, found: dict[tuple[UUID | None, UUID | None, str | None], Rule]) -> Rule | None:
    keys: tuple[tuple[UUID | None, UUID | None, str | None], ...] = (
        (lease.id, None, None),
        (None, lease.project_id, None),
        (None, None, lease.image),
        (None, None, None),
    )
    return next((found[key] for key in keys if key in found), None)


def _own(lease: Lease, policy: Rule) -> Rule:
    if lease.idle_timeout_seconds is None:
        return policy
    return replace(policy, window_seconds=lease.idle_timeout_seconds, learned=False)


def _hours(said: dict[str, Any]) -> Hours:
    return Hours(
        days=frozenset(said["days"]),
        begin=time.fromisoformat(said["from"]),
        end=time.fromisoformat(said["to"]),
        zone=ZoneInfo(said["zone"]),
    )
