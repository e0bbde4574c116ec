"""Plan → rows, re-verified: a lease must still wait, and the database itself refuses what does not fit.

A plan is a few statements, however long it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from leasing.gpus import WHOLE
from leasing.service import events, transitions
from leasing.service.transitions import Move
from leasing.states import Cause, EndReason, Goal, LeaseState, Priority, SuspendReason
from leasing.units import format_size
from scheduler import waiting
from scheduler.policy.snapshot import Grant, Placement, Plan, Preemption

log = logging.getLogger(__name__)
ACTOR = "planner"

LOCK = sa.text("""
    SELECT id FROM lease WHERE id = ANY (CAST(:ids AS uuid[])) AND state = :state FOR NO KEY UPDATE SKIP LOCKED
""")
# Runs before allocations: whoever takes or frees anything locks a node's usage first, then its devices' in id order.
# Two leases of one workspace that was never used are not to be placed on two nodes: the second is refused for having no
# CPUs.
PLACE = sa.text("""
    WITH asked AS (
        SELECT lease.id AS lease_id, a.node_id, memory_bytes, workspace_id, reservation_id, position,
            CASE WHEN workspace.id IS NULL OR a.node_id = coalesce(
                workspace.node_id, first_value(a.node_id) OVER (PARTITION BY workspace.id ORDER BY position)
            ) THEN cpus_millis END AS cpus_millis
        FROM unnest(CAST(:leases AS uuid[]), CAST(:nodes AS uuid[])) WITH ORDINALITY AS a (id, node_id, position)
        JOIN lease USING (id) LEFT JOIN workspace ON workspace.id = workspace_id
    ), made AS (
        INSERT INTO run (lease_id, generation, node_id, cpus_millis, memory_bytes)
        SELECT lease_id, 1 + coalesce((SELECT max(generation) FROM run WHERE run.lease_id = asked.lease_id), 0),
            node_id, cpus_millis, memory_bytes
        FROM asked ORDER BY position
        RETURNING id, lease_id
    ), bound AS (
        UPDATE workspace SET node_id = asked.node_id, last_used_at = :now
        FROM asked WHERE workspace.id = asked.workspace_id
    ), used AS (
        UPDATE reservation SET state = 'used' FROM asked
        WHERE reservation.id = asked.reservation_id AND reservation.state = 'booked'
    )
    INSERT INTO allocation (run_id, device_id, share, memory_bytes)
    SELECT made.id, device_id, share, memory_bytes
    FROM unnest(
        CAST(:holders AS uuid[]), CAST(:devices AS uuid[]), CAST(:shares AS int[]), CAST(:memories AS bigint[])
    ) AS g (lease_id, device_id, share, memory_bytes)
    JOIN made USING (lease_id) ORDER BY device_id
""")
BOUND = sa.text("""
    WITH asked AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:ends AS timestamptz[]), CAST(:messages AS text[]))
        AS asked (id, ends_before, message)
    ), cut AS (
        UPDATE lease SET until = least(until, ends_before), ttl_seconds = NULL FROM asked
        WHERE lease.id = asked.id
    )
    INSERT INTO event (kind, message, actor, lease_id) SELECT 'lease.bounded', message, :actor, id FROM asked
""")
# What is ready on the node goes with its place, in the same transaction: a container of that very kind, to whoever can
# do with one whose variables, mounts and sizes are set already; else a sandbox.
GIVE = sa.text("""
    WITH asked AS (
        SELECT run.id AS run_id, run.node_id, lease.image, run.cpus_millis, run.memory_bytes, held.device, a.position,
            lease.env = '{}' AND lease.workspace_id IS NULL AND lease.shm_bytes IS NULL
                AND lease.kept_container IS NULL AND lease.kept_image IS NULL
                AND (held.parts = 0 OR held.parts = 1 AND held.share = 1000) AS plain
        FROM unnest(CAST(:leases AS uuid[])) WITH ORDINALITY AS a (id, position)
        JOIN lease USING (id)
        JOIN run ON run.lease_id = lease.id AND run.released_at IS NULL
        CROSS JOIN LATERAL (
            SELECT count(*) AS parts, min(share) AS share, (array_agg(device_id))[1] AS device
            FROM allocation WHERE allocation.run_id = run.id
        ) AS held
    ), ready AS (
        SELECT id, node_id, role, image, cpus_millis, memory_bytes, device_id, ready_at FROM warm
        WHERE state = 'ready' AND node_id = ANY (CAST(:nodes AS uuid[])) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    ), warmed AS (
        SELECT run_id, ready.id, 'warm' AS role
        FROM (
            SELECT *, row_number() OVER (
                PARTITION BY node_id, image, cpus_millis, memory_bytes, device ORDER BY position
            ) AS turn FROM asked WHERE plain
        ) AS asked
        JOIN (
            SELECT *, row_number() OVER (
                PARTITION BY node_id, image, cpus_millis, memory_bytes, device_id ORDER BY ready_at, id
            ) AS turn FROM ready WHERE role = 'warm'
        ) AS ready USING (node_id, image, cpus_millis, memory_bytes, turn)
        WHERE asked.device IS NOT DISTINCT FROM ready.device_id
    ), joined AS (
        SELECT run_id, ready.id, 'sandbox' AS role
        FROM (
            SELECT run_id, node_id, row_number() OVER (PARTITION BY node_id ORDER BY position) AS turn
            FROM asked WHERE run_id NOT IN (SELECT run_id FROM warmed)
        ) AS asked
        JOIN (
            SELECT id, node_id, row_number() OVER (PARTITION BY node_id ORDER BY ready_at, id) AS turn
            FROM ready WHERE role = 'sandbox'
        ) AS ready USING (node_id, turn)
    ), given AS (
        UPDATE run SET warm_id = found.id, ready = found.role
        FROM (SELECT * FROM warmed UNION ALL SELECT * FROM joined) AS found
        WHERE run.id = found.run_id RETURNING warm_id
    )
    UPDATE warm SET state = 'taken', taken_at = :now FROM given WHERE warm.id = given.warm_id
""")
# A device that was bound in advance is free for all the same: what waits on it gives way, before the lease starts.
YIELD = sa.text("""
    UPDATE warm SET state = 'spent' WHERE device_id = ANY (CAST(:devices AS uuid[])) AND state IN ('making', 'ready')
""")
PREEMPTED = sa.text("UPDATE lease SET suspend_reason = :reason WHERE id = ANY (CAST(:ids AS uuid[]))")


@dataclass(frozen=True)
class Committed:
    """What became of a plan. `conflicts` are placements that the database refused; the next pass plans them anew."""

    placed: int
    refused: int
    conflicts: int


def commit(session: Session, plan: Plan, now: datetime) -> Committed:
    """Write the plan in the caller's transaction. What somebody else is changing just now is left alone."""
    asked = [placement.lease.id for placement in plan.placements] + [lease.id for lease, _ in plan.refusals]
    queued = _locked(session, asked, LeaseState.QUEUED)
    placements = [placement for placement in plan.placements if placement.lease.id in queued]
    placed = _place_all(session, placements, now)
    refusals = [
        Move(lease.id, f"No room now: {reason}.") for lease, reason in plan.refusals if lease.id in queued
    ]
    transitions.move_many(
        session, refusals, LeaseState.QUEUED, LeaseState.ENDED, Cause.PLANNER,
        now=now, actor=ACTOR, reason=EndReason.CANCELLED,
    )  # fmt: skip
    _preempt(session, plan.preemptions, now)
    waiting.tell(session, plan)
    return Committed(placed, len(refusals), len(placements) - placed)


def _locked(session: Session, ids: Sequence[UUID], state: LeaseState) -> set[UUID]:
    """Those that are still so and that nobody is changing just now, locked."""
    if not ids:
        return set()
    return set(session.execute(LOCK, {"ids": list(ids), "state": state.value}).scalars())


def _place_all(session: Session, placements: Sequence[Placement], now: datetime) -> int:
    """How many were placed: all at once, or, if the database refuses that, each on its own."""
    if not placements:
        return 0
    try:
        with session.begin_nested():
            _place(session, placements, now)
        return len(placements)
    except IntegrityError as error:
        if len(placements) > 1:
            return sum(_place_all(session, [placement], now) for placement in placements)
        (placement,) = placements
        log.info("placement refused by the database lease=%s error=%s", placement.lease.id, error.orig)
        message = f"{placement.node.name} could not take it after all"
        events.record(session, "lease.conflict", message, actor=ACTOR, lease_id=placement.lease.id)
        return 0


def _place(session: Session, placements: Sequence[Placement], now: datetime) -> None:
    grants = [(placement.lease.id, grant) for placement in placements for grant in placement.grants]
    session.execute(
        PLACE,
        {
            "leases": [placement.lease.id for placement in placements],
            "nodes": [placement.node.id for placement in placements],
            "holders": [lease_id for lease_id, _ in grants],
            "devices": [grant.device.id for _, grant in grants],
            "shares": [grant.share for _, grant in grants],
            "memories": [grant.memory_bytes for _, grant in grants],
            "now": now,
        },
    )
    leases, nodes = [one.lease.id for one in placements], [one.node.id for one in placements]
    session.execute(GIVE, {"leases": leases, "nodes": nodes, "now": now})
    if grants:
        session.execute(YIELD, {"devices": [grant.device.id for _, grant in grants]})
    _bound(session, {one.lease.id: one.ends_before for one in placements if one.ends_before is not None})
    transitions.move_many(
        session, [_placed(placement) for placement in placements], LeaseState.QUEUED, LeaseState.PLACED,
        Cause.PLANNER, now=now, actor=ACTOR,
    )  # fmt: skip


def _placed(placement: Placement) -> Move:
    on = ", ".join(_part(grant) for grant in placement.grants)
    data: dict[str, Any] = {
        "node": placement.node.name,
        "devices": [grant.device.uuid for grant in placement.grants],
    }
    return Move(placement.lease.id, f"placed on {placement.node.name}{' on ' if on else ''}{on}", data)


def _part(grant: Grant) -> str:
    """How people are told of it."""
    if grant.share == WHOLE:
        return f"GPU {grant.device.index}"
    return f"{grant.share / 10:g} % of GPU {grant.device.index} with {format_size(grant.memory_bytes)}"


def _bound(session: Session, ends: Mapping[UUID, datetime]) -> None:
    """Cut the time of leases that stand before a reservation."""
    if ends:
        messages = [
            f"a reservation begins at {end:%Y-%m-%d %H:%M %Z}, and its time ends then"
            for end in ends.values()
        ]
        values = {"ids": list(ends), "ends": list(ends.values()), "messages": messages, "actor": ACTOR}
        session.execute(BOUND, values)


def _preempt(session: Session, preemptions: Iterable[Preemption], now: datetime) -> None:
    """Those that give way begin to: their workers suspend them, and they queue again by themselves."""
    by_victim = {one.victim.id: one.by for one in preemptions}
    running = _locked(session, list(by_victim), LeaseState.RUNNING)
    if not running:
        return
    session.execute(PREEMPTED, {"ids": list(running), "reason": SuspendReason.PREEMPTED.value})
    moves = [
        Move(
            victim,
            f"it gives way to {by.name} (priority {Priority.of(by.priority)})",
            {"for": str(by.id), "name": by.name, "reclaimed": EndReason.PREEMPTED},
        )
        for victim, by in by_victim.items()
        if victim in running
    ]
    transitions.move_many(
        session, moves, LeaseState.RUNNING, LeaseState.STOPPING, Cause.PLANNER,
        now=now, actor=ACTOR, goal=Goal.SUSPENDED,
    )  # fmt: skip
