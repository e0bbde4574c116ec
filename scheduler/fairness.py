"""What each project has used, older use counting for less: written into its row, a little with every pass."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from scheduler.policy.snapshot import CPU_WORTH, Standing

EVERY_SECONDS = 5.0

# A run counts as its devices, or as its CPUs where those are worth more. Of the time from a to b seconds ago, with a
# half-life of h, h/ln 2 * (2^(-b/h) - 2^(-a/h)) is left; and all that was counted before has shrunk by 2^(-t/h).
ACCOUNT = sa.text("""
    WITH due AS (
        SELECT id, used_at FROM project
        WHERE used_at < CAST(:now AS timestamptz) - make_interval(secs => :every)
        FOR NO KEY UPDATE SKIP LOCKED
    ), times AS (
        SELECT due.id, worth.devices,
            extract(epoch FROM :now - greatest(run.placed_at, due.used_at)) AS since,
            extract(epoch FROM :now - least(run.released_at, :now)) AS left_since
        FROM run JOIN lease ON lease.id = run.lease_id JOIN due ON due.id = lease.project_id
        CROSS JOIN LATERAL (
            SELECT greatest(coalesce(sum(share), 0) / 1000.0, run.cpus_millis / 1000.0 * :cpu_worth) AS devices
            FROM allocation WHERE allocation.run_id = run.id
        ) worth
        WHERE run.placed_at < :now AND (
            run.released_at IS NULL
            OR run.released_at > (SELECT min(used_at) FROM due) AND run.released_at > due.used_at
        )
    ), added AS (
        SELECT id, sum(devices * :half / ln(2) * (power(2, -left_since / :half) - power(2, -since / :half))) AS seconds
        FROM times GROUP BY id
    )
    UPDATE project SET used_at = :now, used_device_seconds = coalesce(added.seconds, 0) + used_device_seconds
        * power(2, -least(extract(epoch FROM :now - project.used_at), 60 * :half) / :half)
    FROM due LEFT JOIN added USING (id) WHERE project.id = due.id
""")

# To come: what live leases hold, until their deadlines. Who holds much has had much, however short a while ago.
TO_COME = sa.text("""
    SELECT project.name, project.weight, project.used_device_seconds + coalesce(sum(
        greatest(coalesce(held.share, 0) / 1000.0, run.cpus_millis / 1000.0 * :cpu_worth)
        * greatest(extract(epoch FROM coalesce(
            lease.ends_at, lease.until, :now + make_interval(secs => lease.ttl_seconds)
        ) - :now), 0)
    ), 0) AS seconds
    FROM project
    LEFT JOIN (lease JOIN run ON run.lease_id = lease.id AND run.released_at IS NULL) ON lease.project_id = project.id
    LEFT JOIN LATERAL (
        SELECT sum(share) AS share FROM allocation WHERE run_id = run.id AND released_at IS NULL
    ) held ON true
    GROUP BY project.id
""")


def account(session: Session, now: datetime, *, half_life_seconds: float) -> None:
    """Bring what the projects have used up to date, unless that was done just now."""
    session.execute(
        ACCOUNT,
        {"now": now, "every": EVERY_SECONDS, "half": half_life_seconds, "cpu_worth": CPU_WORTH},
    )


def standings(session: Session, now: datetime) -> dict[str, Standing]:
    """By project: what it has used and will yet have used by its leases' deadlines, and its weight."""
    rows = session.execute(TO_COME, {"now": now, "cpu_worth": CPU_WORTH})
    return {name: Standing(float(seconds), weight) for name, weight, seconds in rows}
