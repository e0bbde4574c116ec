"""The platform's own processes, by their heartbeats."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.model import Part

BEAT_SECONDS = 5.0
"""How often a process says that it lives."""


def join(session: Session, role: str) -> UUID:
    """Register this process; its id for `beat`."""
    part = Part(role=role, host=socket.gethostname(), pid=os.getpid())
    session.add(part)
    session.flush()
    return part.id


def beat(session: Session, part_id: UUID, *, now: datetime) -> None:
    """Say that the process lives."""
    session.execute(sa.update(Part).where(Part.id == part_id).values(seen_at=now))


def leave(session: Session, part_id: UUID) -> None:
    """The process stops in order."""
    session.execute(sa.delete(Part).where(Part.id == part_id))


def alive(session: Session, role: str, *, within: timedelta, now: datetime) -> bool:
    """Whether a process of that role was heard within the time."""
    return session.execute(
        sa.select(sa.exists().where(Part.role == role, Part.seen_at > now - within))
    ).scalar_one()


def prune(session: Session, *, now: datetime) -> None:
    """Forget processes silent for a day."""
    session.execute(sa.delete(Part).where(Part.seen_at < now - timedelta(days=1)))
