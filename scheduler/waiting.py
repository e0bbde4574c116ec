"""What those that wait are told: why, since when to expect room, and where they stand. Only what changed is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from scheduler.policy.snapshot import Plan

SAME_SECONDS = 30.0
"""A forecast that slips by less, as time passes, is no news."""

STANDING = sa.text("""
    SELECT id, rank FROM lease WHERE id = ANY (CAST(:ids AS uuid[])) AND state = 'queued'
    ORDER BY rank ASC NULLS LAST, arrival
""")
LAST_RANK = sa.text("SELECT max(rank) FROM lease WHERE state = 'queued'")
# Who is being released just now is skipped: the planner never waits for a person's transaction.
TELL = sa.text("""
    WITH asked AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:blockers AS jsonb[]), CAST(:expected AS timestamptz[]),
            CAST(:latest AS timestamptz[]), CAST(:ranks AS bigint[])
        ) AS asked (id, blockers, expected, latest, rank)
    ), news AS (
        SELECT id, asked.blockers, coalesce(asked.rank, lease.rank) AS rank,
            CASE WHEN sooner THEN asked.expected ELSE lease.expected_start END AS expected,
            CASE WHEN later THEN asked.latest ELSE lease.latest_start END AS latest
        FROM lease JOIN asked USING (id), LATERAL (
            SELECT asked.expected IS DISTINCT FROM lease.expected_start
                AND coalesce(abs(extract(epoch FROM asked.expected - lease.expected_start)) > :same, true) AS sooner,
                asked.latest IS DISTINCT FROM lease.latest_start
                AND coalesce(abs(extract(epoch FROM asked.latest - lease.latest_start)) > :same, true) AS later
        ) AS moved
        WHERE lease.state = 'queued' AND (
            sooner OR later OR lease.blockers <> asked.blockers
            OR coalesce(asked.rank <> lease.rank, asked.rank IS NOT NULL)
        )
        FOR NO KEY UPDATE OF lease SKIP LOCKED
    )
    UPDATE lease
    SET blockers = news.blockers, rank = news.rank, expected_start = news.expected, latest_start = news.latest
    FROM news WHERE lease.id = news.id
""")


def tell(session: Session, plan: Plan) -> None:
    """Write to the rows of those that stay in the queue what the plan says of them."""
    if not plan.blockers:
        return
    ids = list(plan.blockers)
    ranks = _ranks(session, [lease for lease in plan.order if lease in plan.blockers])
    session.execute(
        TELL,
        {
            "ids": ids,
            "blockers": [json.dumps(list(said)) for said in plan.blockers.values()],
            "expected": _of(plan.expected, ids),
            "latest": _of(plan.latest, ids),
            "ranks": [ranks.get(lease_id) for lease_id in ids],
            "same": SAME_SECONDS,
        },
    )


def _of(starts: Mapping[UUID, datetime | None], ids: Sequence[UUID]) -> list[datetime | None]:
    return [starts.get(lease_id) for lease_id in ids]


def _ranks(session: Session, order: Sequence[UUID]) -> Mapping[UUID, int]:
    """Ranks that make the rows sort as `order`: of the newest alone, as long as the others stand so already."""
    if not order:
        return {}
    standing: dict[UUID, int | None] = dict(session.execute(STANDING, {"ids": list(order)}).all())
    wanted = [lease_id for lease_id in order if lease_id in standing]
    if list(standing) != wanted:
        return {lease_id: rank for rank, lease_id in enumerate(wanted, start=1)}
    new = [lease_id for lease_id in wanted if standing[lease_id] is None]
    if not new:
        return {}
    last = session.execute(LAST_RANK).scalar_one() or 0
    return {lease_id: last + place for place, lease_id in enumerate(new, start=1)}
