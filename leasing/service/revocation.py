"""When what was taken from somebody is in force: once every gateway acts on rows that say so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import GRANTS

GATEWAY = "gateway"
GONE_AFTER = timedelta(seconds=15)
"""A gateway not heard of for so long lets nobody in: it believes grants for less (`stale_seconds`) without a load."""

IN_FORCE = sa.text("""
    SELECT coalesce(bool_and(
               grants IS NOT NULL AND pg_visible_in_snapshot(CAST(:mark AS xid8), CAST(grants AS pg_snapshot))
           ), true)
    FROM part WHERE role = :role AND seen_at > now() - CAST(:gone_after AS interval)
""")


@dataclass(frozen=True)
class Mark:
    """A transaction that took something away, by its id."""

    transaction: str


def mark(session: Session) -> Mark:
    """Of the caller's transaction; every gateway looks at the rows anew once it commits, whatever it changed."""
    found = session.execute(
        sa.select(sa.cast(sa.func.pg_current_xact_id(), sa.Text), sa.func.pg_notify(GRANTS, "revoked"))
    ).one()
    return Mark(found[0])


def in_force(session: Session, marked: Mark) -> bool:
    """Whether every gateway that lives acts on rows as that transaction left them, or later ones."""
    found: bool = session.execute(
        IN_FORCE, {"mark": marked.transaction, "role": GATEWAY, "gone_after": GONE_AFTER}
    ).scalar_one()
    return found
