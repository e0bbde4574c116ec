"""Writing down what happened."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import EVENTS
from leasing.model import Event


def record(
    session: Session,
    kind: str,
    message: str,
    *,
    actor: str,
    lease_id: UUID | None = None,
    node_id: UUID | None = None,
    device_id: UUID | None = None,
    data: dict[str, Any] | None = None,
) -> Event:
    """Add an event to the caller's transaction; its insertion wakes every listener once that commits.

    `message` is past tense and for people, `kind` is dotted and stable, `actor` is who did it (`user:ada`, `planner`).
    """
    event = Event(
        kind=kind,
        message=message,
        actor=actor,
        lease_id=lease_id,
        node_id=node_id,
        device_id=device_id,
        data=data or {},
    )
    session.add(event)
    session.flush()
    return event


def hint(session: Session, kind: str) -> None:
    """Wake those who listen for `kind`, once the caller's transaction commits: for what nobody needs to read later."""
    session.execute(sa.select(sa.func.pg_notify(EVENTS, f"-:{kind}")))
