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


def issue(session: Session, *, user_id: UUID, lease_id: UUID, now: datetime) -> str:
    """A ticket for that user to that lease. It is no endpoint token yet: only `redeem` takes it."""
    _, secret = people.issue(
        session, user_id, TokenKind.SIGNIN, TICKET, expires_at=now + TICKET_LASTS, lease_id=lease_id
    )
    return secret


def redeem(session: Session, secret: str, lease_id: UUID, *, lasts: timedelta, now: datetime) -> str:
    """The cookie's secret for a ticket, which is used up. Raises `NotSignedIn`."""
    user_id = session.execute(
        sa.update(Token)
        .where(
            Token.hash == people.hashed(secret),
            Token.kind == TokenKind.SIGNIN,
            Token.lease_id == lease_id,
            Token.revoked_at.is_(None),
            Token.expires_at > now,
        )
        .values(revoked_at=now)
        .returning(Token.user_id)
    ).scalar_one_or_none()
    if user_id is None:
        raise no_ticket()
    _, lasting = people.issue(
        session, user_id, TokenKind.ENDPOINT, "endpoint", expires_at=now + lasts, lease_id=lease_id
    )
    return lasting


def no_ticket() -> NotSignedIn:
    """What is said of any ticket that is not good."""
    return NotSignedIn(
        "That ticket was used already or is too old.", hint="Open the endpoint from its page again."
    )


def withdraw(session: Session, *, user_id: UUID, now: datetime) -> None:
    """Every browser of that user's is shut out of all endpoints: its cookies, and tickets that nobody used yet. Tokens
    handed out to applications stay good."""
    session.execute(
        sa.update(Token)
        .where(
            Token.user_id == user_id,
            sa.or_(
                Token.kind == TokenKind.ENDPOINT,
                sa.and_(Token.kind == TokenKind.SIGNIN, Token.lease_id.is_not(None)),
            ),
            Token.revoked_at.is_(None),
        )
        .values(revoked_at=now)
    )
