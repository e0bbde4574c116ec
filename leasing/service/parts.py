"""The platform's own processes, by their heartbeats."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.model import Part

BEAT_SECONDS = 5.0
"""How often a process says that it lives."""
SILENT_SECONDS = 3 * BEAT_SECONDS
"""One that was not heard for so long is taken for dead by whoever would go on with its work."""

# The disk is not waited for: what a crash of the server forgets is said anew.
CONFIRM = sa.text("""
    INSERT INTO part (id, role, host, pid, grants)
    SELECT :id, :role, :host, :pid, :grants FROM set_config('synchronous_commit', 'off', true)
    ON CONFLICT (id) DO UPDATE SET seen_at = now(), grants = excluded.grants
""")


def join(session: Session, role: str, part_id: UUID | None = None) -> UUID:
    """Say that this process lives; its id, with which to say so again and again.

    Also where the row is gone, as after a backup was restored or the clock jumped.
    """
    own = insert(Part).values(id=part_id or uuid4(), role=role, host=socket.gethostname(), pid=os.getpid())
    again = own.on_conflict_do_update(index_elements=[Part.id], set_={"seen_at": sa.func.now()})
    return session.execute(again.returning(Part.id)).scalar_one()


def confirm(session: Session, part_id: UUID, role: str, snapshot: str) -> None:
    """Say that the process lives, and lets callers in by the rows of that snapshot and no older ones."""
    own = {"id": part_id, "role": role, "host": socket.gethostname(), "pid": os.getpid(), "grants": snapshot}
    session.execute(CONFIRM, own)


def leave(session: Session, part_id: UUID) -> None:
    """The process stops in order."""
    session.execute(sa.delete(Part).where(Part.id == part_id))


def alive(session: Session, role: str, *, within: timedelta, now: datetime) -> bool:
    """Whether a process of that role was heard within the time."""
    return session.execute(
        sa.select(sa.exists().where(Part.role == role, Part.seen_at > now - within))
    ).scalar_one()


def living(session: Session) -> set[UUID]:
    """Those that were heard lately."""
    heard = Part.seen_at > sa.func.now() - timedelta(seconds=SILENT_SECONDS)
    return set(session.execute(sa.select(Part.id).where(heard)).scalars())


def prune(session: Session, *, now: datetime) -> None:
    """Forget processes silent for a day."""
    session.execute(sa.delete(Part).where(Part.seen_at < now - timedelta(days=1)))
