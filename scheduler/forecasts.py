"""What those who wait were told of their start, how it came out, and what delayed those who started later than that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.service import events
from leasing.service.forecasts import LATE
from leasing.states import DeviceHealth, LeaseState, NodeHealth, NodeIntent, SuspendReason
from leasing.units import format_duration
from scheduler import history
from scheduler.policy.behaviour import Behaviour
from scheduler.policy.snapshot import Plan

ACTOR = "planner"
NAMED = 3
"""So many causes are named in a sentence; the rest are counted, and all stand in the event's data."""
FAULTS = (
    *(f"node.{one}" for one in (NodeHealth.UNREACHABLE, NodeHealth.LOST, NodeIntent.CORDONED, NodeIntent.DRAINING)),
    *(f"device.{one}" for one in DeviceHealth if one is not DeviceHealth.OK),
    f"device.{NodeIntent.CORDONED}", "device.foreign", "device.quarantined",
)  # fmt: skip
RENEWAL, PREEMPTION, STANDING = "lease.renewed", "lease.suspended", "lease.placed"
CAUSE = {RENEWAL: "renewal", PREEMPTION: "preemption", STANDING: "standing"}

TOLD = sa.text("""
    INSERT INTO forecast (lease_id, told_at, expected_start, latest_start, foreseen_start, ahead)
    SELECT told.id, :now, told.expected, told.latest, told.foreseen, told.ahead
    FROM unnest(CAST(:ids AS uuid[]), CAST(:expected AS timestamptz[]), CAST(:latest AS timestamptz[]),
                CAST(:foreseen AS timestamptz[]), CAST(:ahead AS integer[]))
         AS told (id, expected, latest, foreseen, ahead)
    JOIN lease ON lease.id = told.id AND lease.state = :queued
    WHERE NOT EXISTS (SELECT FROM forecast WHERE forecast.lease_id = told.id AND forecast.placed_at IS NULL)
    ON CONFLICT DO NOTHING
""")
PLACED = sa.text("""
    UPDATE forecast SET placed_at = :now
    FROM lease
    WHERE forecast.lease_id = lease.id AND lease.id = ANY(:ids) AND lease.state = :placed AND placed_at IS NULL
    RETURNING lease.id, forecast.told_at, forecast.latest_start
""")
SINCE = sa.text("""
    SELECT lease.id, coalesce(told.told_at, :now) FROM lease
    LEFT JOIN forecast AS told ON told.lease_id = lease.id AND told.placed_at IS NULL
    WHERE lease.id = ANY(:ids) AND lease.reservation_id IS NULL
""")
CAUSES = sa.text("""
    SELECT event.kind, event.id, coalesce(other.name, event.message) AS what
    FROM event
    JOIN lease AS own ON own.id = :id
    LEFT JOIN lease AS other ON other.id = event.lease_id
    WHERE event.at >= :since AND event.lease_id IS DISTINCT FROM own.id
      AND (event.kind = ANY(:faults)
           OR event.kind = :renewal AND (other.ended_at IS NULL OR other.ended_at > :latest)
           OR event.kind = :suspended AND other.suspend_reason = :preempted
           OR event.kind = :placed AND other.arrival > own.arrival
              AND (other.priority > own.priority
                   OR other.project_id <> own.project_id AND other.rank < own.rank))
    ORDER BY event.id
    LIMIT :most
""")
"""What came between: a better standing is that of one that came later and was served before."""
MOST = 100


def corrected(session: Session, plan: Plan, now: datetime) -> Plan:
    """The plan, expecting of each that waits what came of those that were foretold as long a wait.

    Some go ahead because they delay nobody, others leave before their time, and the first of many to leave goes long
    before half of them have: the queue played forward knows nothing of that, and foretells too long waits. So the part
    of a foreseen wait that is really waited is learnt as the part of their time that leases stay: half of those who
    have waited as long as this one start earlier. It is never later than foreseen, and no promise of a reservation is
    touched.
    """
    foreseen = {one: start for one, start in plan.expected.items() if start is not None}
    usual = history.patience(session, now) if foreseen else Behaviour()
    if not usual.known:
        return plan
    expected = dict(plan.expected)
    ahead = _ahead(plan)
    for lease_id, since in session.execute(SINCE, {"ids": list(foreseen), "now": now}):
        group, start = history.place(ahead[lease_id]), foreseen[lease_id]
        expected[lease_id] = usual.likely_end("", group, started=since, deadline=start, now=now) or start
    return replace(plan, expected=expected)


def _ahead(plan: Plan) -> dict[UUID, int]:
    """Of each that waits for room, how many are before it."""
    order = plan.order or list(plan.expected)
    return {
        one: place for place, one in enumerate(one for one in order if plan.expected.get(one) is not None)
    }


def told(session: Session, plan: Plan, foreseen: Mapping[UUID, datetime | None], now: datetime) -> None:
    """Keep what was foretold, once a lease and time that it queues, and close what is kept of those that are placed.

    `foreseen` are the expected starts before they were corrected. To be called in the transaction that commits the
    plan, after that. A lease that was placed more than `LATE` after the latest start that it was told gets an event
    that names the causes.
    """
    if plan.placements:
        ids = [placement.lease.id for placement in plan.placements]
        closed = session.execute(PLACED, {"now": now, "ids": ids, "placed": LeaseState.PLACED}).all()
        for lease_id, told_at, latest in closed:
            if latest is not None and now - latest > LATE:
                _delayed(session, lease_id, told_at, latest, now)
    known = [(lease_id, start) for lease_id, start in plan.expected.items() if start is not None]
    if known:
        ahead = _ahead(plan)
        session.execute(
            TOLD,
            {
                "now": now,
                "ids": [lease_id for lease_id, _ in known],
                "expected": [start for _, start in known],
                "latest": [plan.latest.get(lease_id) for lease_id, _ in known],
                "foreseen": [foreseen[lease_id] for lease_id, _ in known],
                "ahead": [ahead[lease_id] for lease_id, _ in known],
                "queued": LeaseState.QUEUED,
            },
        )


def _delayed(session: Session, lease_id: UUID, told_at: datetime, latest: datetime, now: datetime) -> None:
    rows = session.execute(
        CAUSES,
        {
            "id": lease_id, "since": told_at, "latest": latest, "most": MOST, "preempted": SuspendReason.PREEMPTED,
            "faults": list(FAULTS), "renewal": RENEWAL, "suspended": PREEMPTION, "placed": STANDING,
        },
    ).all()  # fmt: skip
    said = list(dict.fromkeys(_said(kind, what) for kind, _, what in rows))
    more = [f"{len(said) - NAMED} more causes"] if len(said) > NAMED else []
    because = ", ".join([*said[:NAMED], *more]) or "no cause is known"
    late = (now - latest).total_seconds()
    events.record(
        session,
        "lease.delayed",
        f"got its place {format_duration(late // 60 * 60)} later than it was told: {because}",
        actor=ACTOR,
        lease_id=lease_id,
        data={
            "told_at": told_at.isoformat(),
            "latest_start": latest.isoformat(),
            "late_seconds": late,
            "causes": [{"cause": CAUSE.get(kind, "fault"), "event": event} for kind, event, _ in rows],
        },
    )


def _said(kind: str, what: str) -> str:
    match kind:
        case "lease.renewed":
            return f"{what} was extended"
        case "lease.suspended":
            return f"{what} was suspended for another"
        case "lease.placed":
            return f"{what} came later and stood before it"
        case _:
            return what
