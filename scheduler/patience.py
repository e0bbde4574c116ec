"""What is missing on an engine right after its start may yet come back: its disk may not be mounted."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from leasing.database import Sessions, now
from leasing.drivers.protocol import Lifecycle
from leasing.errors import DriverError, EngineDown
from leasing.model import Node


def until(sessions: Sessions, node_id: UUID, epoch: str | None, seconds: float) -> datetime | None:
    """Until when what is missing on the node is not taken for gone; None: it is.

    `epoch` is the engine's, asked for after it was found missing. Its time counts from when that epoch was first seen,
    whoever saw it: a scheduler that was started since is no less patient.
    """
    with sessions() as session:
        moment = now(session)
        since = session.execute(
            sa.select(Node.engine_since).where(
                Node.id == node_id, Node.engine["epoch"].astext.is_not_distinct_from(epoch)
            )
        ).scalar_one_or_none()
    end = min(since or moment, moment) + timedelta(seconds=seconds)
    return end if end > moment else None


def check(sessions: Sessions, engine: Lifecycle, node_id: UUID, seconds: float, error: DriverError) -> None:
    """Before anything follows from `error`, that something is missing there. Raises `EngineDown` while it may yet come
    back: as if nothing had answered, for who would have is not there yet."""
    end = until(sessions, node_id, engine.probe().epoch, seconds)
    if end is not None:
        raise EngineDown(
            f"{error.message} Its engine was started anew: that is waited for until {end:%Y-%m-%d %H:%M %Z}."
        ) from error
