"""Events as people see them."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.model import Event
from leasing.schema.lease import EventOut, EventPage

MAX_PAGE = 500


def page(session: Session, *, lease_id: UUID | None, after_id: int, limit: int) -> EventPage:
    """Events in the order in which they were written, from after `after_id`."""
    most = min(limit, MAX_PAGE)
    statement = sa.select(Event).where(Event.id > after_id).order_by(Event.id).limit(most)
    if lease_id is not None:
        statement = statement.where(Event.lease_id == lease_id)
    found = session.execute(statement).scalars().all()
    return EventPage(
        items=[_shown(event) for event in found], next=str(found[-1].id) if len(found) == most else None
    )


def newest(session: Session, lease_id: UUID, most: int) -> list[EventOut]:
    """What happened to a lease last, the newest first."""
    statement = sa.select(Event).where(Event.lease_id == lease_id).order_by(Event.id.desc()).limit(most)
    return [_shown(event) for event in session.execute(statement).scalars()]


def _shown(event: Event) -> EventOut:
    return EventOut(
        id=event.id,
        at=event.at,
        actor=event.actor,
        kind=event.kind,
        message=event.message,
        lease=event.lease_id,
        from_state=event.from_state,
        to_state=event.to_state,
        reason=event.reason,
        data=event.data,
    )
