"""Which installation this is: the mark on everything it owns on an engine."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.model import Installation


def get_or_create(session: Session) -> str:
    """The installation's id, 8 hex digits; made at the first start and kept, also in a restored backup."""
    session.execute(insert(Installation).values(id=secrets.token_hex(4)).on_conflict_do_nothing())
    return session.execute(sa.select(Installation.id)).scalar_one()
