"""Plan → rows, re-verified: a lease must still wait, and the database itself refuses what does not fit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from leasing.gpus import WHOLE
from leasing.model import Allocation, Lease, Run, Workspace
from leasing.service import events, transitions
from leasing.states import Cause, EndReason, LeaseState
from leasing.units import format_size
from scheduler.policy.snapshot import Grant, Placement, Plan

log = logging.getLogger(__name__)
ACTOR = "planner"
SAME_SECONDS = 30.0


@dataclass(frozen=True)
class Committed:
    """What became of a plan. `conflicts` are placements that the database refused; the next pass plans them anew."""

    placed: int
    refused: int
    conflicts: int


def commit(session: Session, plan: Plan, now: datetime) -> Committed:
    """Write the plan in the caller's transaction, each placement on its own savepoint."""
    ids = [placement.lease.id for placement in plan.placements] + [lease.id for lease, _ in plan.refusals]
    waiting = _still_waiting(session, [*ids, *plan.blockers])
    placed = conflicts = refused = 0
    for placement in plan.placements:
        lease = waiting.get(placement.lease.id)
        if lease is None:
            continue
        try:
            with session.begin_nested():
                _place(session, lease, placement, now)
            placed += 1
        except IntegrityError as error:
            conflicts += 1
            session.expire(lease)
            log.info("placement refused by the database lease=%s error=%s", lease.id, error.orig)
            message = f"{placement.node.name} could not take it after all"
            events.record(session, "lease.conflict", message, actor=ACTOR, lease_id=placement.lease.id)
    for refusal, reason in plan.refusals:
        if (lease := waiting.get(refusal.id)) is not None:
            transitions.move(
                session, lease, LeaseState.ENDED, Cause.PLANNER,
                now=now, actor=ACTOR, message=f"No room now: {reason}.", reason=EndReason.CANCELLED,
            )  # fmt: skip
            refused += 1
    for lease_id, blockers in plan.blockers.items():
        if (lease := waiting.get(lease_id)) is None:
            continue
        if lease.blockers != list(blockers):
            lease.blockers = list(blockers)
        if _moved(lease.expected_start, plan.expected.get(lease_id)):
            lease.expected_start = plan.expected.get(lease_id)
    session.flush()
    return Committed(placed, refused, conflicts)


def _still_waiting(session: Session, ids: Sequence[UUID]) -> dict[UUID, Lease]:
    """Those that nobody has released or is changing just now, locked."""
    if not ids:
        return {}
    rows = session.execute(
        sa.select(Lease)
        .where(Lease.id.in_(ids), Lease.state == LeaseState.QUEUED)
        .with_for_update(skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    ).scalars()
    return {lease.id: lease for lease in rows}


def _place(session: Session, lease: Lease, placement: Placement, now: datetime) -> None:
    generation = session.execute(
        sa.select(sa.func.coalesce(sa.func.max(Run.generation), 0) + 1).where(Run.lease_id == lease.id)
    ).scalar_one()
    run = Run(
        lease_id=lease.id,
        generation=generation,
        node_id=placement.node.id,
        cpus_millis=lease.cpus_millis,
        memory_bytes=lease.memory_bytes,
    )
    session.add(run)
    session.flush()
    # in id order, as everyone locks devices
    session.add_all(
        Allocation(
            run_id=run.id, device_id=grant.device.id, share=grant.share, memory_bytes=grant.memory_bytes
        )
        for grant in sorted(placement.grants, key=lambda grant: grant.device.id)
    )
    if lease.workspace_id is not None:
        session.execute(
            sa.update(Workspace)
            .where(Workspace.id == lease.workspace_id)
            .values(node_id=placement.node.id, last_used_at=now)
        )
    on = ", ".join(_part(grant) for grant in placement.grants)
    transitions.move(
        session, lease, LeaseState.PLACED, Cause.PLANNER,
        now=now, actor=ACTOR, message=f"placed on {placement.node.name}{' on ' if on else ''}{on}",
        data={"node": placement.node.name, "devices": [grant.device.uuid for grant in placement.grants]},
    )  # fmt: skip


def _part(grant: Grant) -> str:
    """How people are told of it."""
    if grant.share == WHOLE:
        return f"GPU {grant.device.index}"
    return f"{grant.share / 10:g} % of GPU {grant.device.index} with {format_size(grant.memory_bytes)}"


def _moved(known: datetime | None, found: datetime | None) -> bool:
    """Whether the forecast is news: one that slips by seconds, as time passes, is not."""
    if known is None or found is None:
        return known is not found
    return abs((known - found).total_seconds()) > SAME_SECONDS
