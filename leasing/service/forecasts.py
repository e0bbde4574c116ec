"""How good the forecasts of the last weeks were: what those who waited were first told, against what came."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.schema.lease import AccuracyOut
from leasing.states import LeaseState

DAYS = 30
LATE = timedelta(minutes=1)
"""What a lease holds is free a little after its deadline: it has to stop, and its devices are proven clean. A start so
much after the latest time told is not late."""

ERRORS = sa.text("""
    SELECT count(*) AS told,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(error)) AS median,
           avg(error) AS bias,
           count(*) FILTER (WHERE kept) AS kept,
           count(*) FILTER (WHERE kept IS NOT NULL) AS bounded
    FROM (
        SELECT CAST(extract(epoch FROM started - expected_start) AS float8) AS error,
               started <= latest_start + :late AS kept
        FROM (
            SELECT told.expected_start, told.latest_start, coalesce(told.placed_at, :now) AS started
            FROM forecast AS told JOIN lease ON lease.id = told.lease_id
            WHERE told.told_at > :since
              AND (told.placed_at IS NOT NULL
                   OR lease.state = :queued AND (told.expected_start < :now OR told.latest_start + :late < :now))
        ) AS came
    ) AS judged
""")
"""Who still waits after the time told counts too, as if it started now: else the worst forecasts would be left out."""


def accuracy(session: Session, now: datetime) -> AccuracyOut | None:
    """Of the last `DAYS` days; None where nobody has waited."""
    since = now - timedelta(days=DAYS)
    row = session.execute(
        ERRORS, {"now": now, "since": since, "late": LATE, "queued": LeaseState.QUEUED}
    ).one()
    if not row.told:
        return None
    return AccuracyOut(
        days=DAYS,
        forecasts=row.told,
        median_error_seconds=row.median,
        bias_seconds=row.bias,
        by_latest_ratio=row.kept / row.bounded if row.bounded else None,
    )
