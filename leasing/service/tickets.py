"""Carrying a visitor from the pages to one lease's endpoint, which lives on another origin.

The pages hand out a ticket, good once and for a minute; the gateway turns it into a cookie for that one lease.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import NotSignedIn
from leasing.model import Token, TokenKind
from leasing.service import people

TICKET_LASTS = timedelta(minutes=1)
TICKET = "ticket"


def issue(session: Session, *, user_id: UUID, lease_id: UUID, opened_by: UUID, now: datetime) -> str:
    """A ticket for that user to that lease, good as long as the token that they are signed in by. It is no endpoint
    token yet: only `redeem` takes it."""
    _, secret = people.issue(
        session,
        user_id,
        TokenKind.SIGNIN,
        TICKET,
        expires_at=now + TICKET_LASTS,
        lease_id=lease_id,
        opened_by=opened_by,
    )
    return secret


def redeem(session: Session, secret: str, lease_id: UUID, *, lasts: timedelta, now: datetime) -> str:
    """The cookie's secret for a ticket, which is used up. Raises `NotSignedIn`."""
    this = (Token.hash == people.hashed(secret), Token.kind == TokenKind.SIGNIN, Token.lease_id == lease_id)
    by = sa.select(Token.opened_by).where(*this).scalar_subquery()
    # a sign-out at the same time waits for this, or this for it
    opened_by = session.execute(
        sa.select(Token.id).where(Token.id == by, Token.revoked_at.is_(None)).with_for_update(read=True)
    ).scalar_one_or_none()
    if opened_by is None:
        raise no_ticket()
    user_id = session.execute(
        sa.update(Token)
        .where(*this, Token.revoked_at.is_(None), Token.expires_at > now)
        .values(revoked_at=now)
        .returning(Token.user_id)
    ).scalar_one_or_none()
    if user_id is None:
        raise no_ticket()
    _, lasting = people.issue(
        session,
        user_id,
        TokenKind.ENDPOINT,
        "endpoint",
        expires_at=now + lasts,
        lease_id=lease_id,
        opened_by=opened_by,
    )
    return lasting


def no_ticket() -> NotSignedIn:
    """What is said of any ticket that is not good."""
    return NotSignedIn(
        "That ticket was used already or is too old.", hint="Open the endpoint from its page again."
    )
