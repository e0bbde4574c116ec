"""Sharing a lease with its project, and tokens that open one lease's endpoint and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.access import Action
from leasing.errors import Conflict, Gone, Invalid, NotFound
from leasing.model import Lease, Token, TokenKind, User
from leasing.schema.people import LeaseTokenIn, TokenOut, TokenPage
from leasing.service import events, people, standings
from leasing.service.principal import Principal
from leasing.states import LeaseState
from leasing.units import format_duration, parse_duration

DEFAULT_TTL, LONGEST_TTL = timedelta(days=30), timedelta(days=365)
MOST_TOKENS = 100
"""Good at one time for one lease."""


def share(session: Session, lease: Lease, shared: bool, *, principal: Principal) -> None:
    """Let the members of its project use it, each as far as their role goes, or no longer. Idempotent.

    The caller holds the row's lock. Raises `Gone` for one that has ended.
    """
    _check_lives(lease)
    if lease.shared == shared:
        return
    lease.shared = shared
    session.flush()
    doing = "shared it with its project" if shared else "shares it with its project no more"
    kind = "lease.shared" if shared else "lease.unshared"
    events.record(session, kind, f"{principal.name} {doing}", actor=principal.actor, lease_id=lease.id)


def create_token(
    session: Session, lease: Lease, ask: LeaseTokenIn, *, principal: Principal, now: datetime
) -> TokenOut:
    """A token for the lease's endpoint. It is good for as long as its maker may call the lease, and no longer.

    The caller holds the row's lock. Raises `Gone`, `Invalid` without a port or for too long a time, `Conflict` where
    there are too many.
    """
    _check_lives(lease)
    if lease.port is None:
        raise Invalid(
            f"Lease {lease.name!r} has no endpoint: it was asked for without a port.",
            hint="Ask with the port that the application listens on: lease up --port 8000",
        )
    lasts = timedelta(seconds=parse_duration(ask.ttl)) if ask.ttl else DEFAULT_TTL
    if lasts > LONGEST_TTL:
        raise Invalid(
            f"{ask.ttl!r} is too long: a token for one lease is good for {format_duration(LONGEST_TTL.total_seconds())}"
            " at most.",
            hint="Make a new one before that is over: lease token create --for 365d",
        )
    has = session.execute(sa.select(sa.func.count()).select_from(Token).where(_valid(lease))).scalar_one()
    if has >= MOST_TOKENS:
        raise Conflict(
            f"Lease {lease.name!r} has {has} tokens, and may have {MOST_TOKENS}.",
            hint=f"Revoke those not in use: lease token ls {lease.name}, lease token rm {lease.name} ID",
        )
    token, secret = people.issue(
        session, principal.user_id, TokenKind.LEASE, ask.label, expires_at=now + lasts, lease_id=lease.id
    )
    said = f"{principal.name} made the token {token.label!r} for its endpoint"
    events.record(session, "lease.token_created", said, actor=principal.actor, lease_id=lease.id)
    session.refresh(token)
    return people.token_out(token, principal.name, secret)


def tokens(session: Session, lease: Lease, *, principal: Principal) -> TokenPage:
    """The principal's good tokens for the lease, newest first; everybody's, for who may share it."""
    statement = (
        sa.select(Token, User.name)
        .join(User, User.id == Token.user_id)
        .where(_valid(lease))
        .order_by(Token.created_at.desc())
    )
    if not standings.allowed(session, lease, Action.SHARE, principal=principal):
        statement = statement.where(Token.user_id == principal.user_id)
    rows = session.execute(statement)
    return TokenPage(items=[people.token_out(token, name, None) for token, name in rows])


def revoke_token(
    session: Session, lease: Lease, token_id: UUID, *, principal: Principal, now: datetime
) -> None:
    """One's own; anybody's, for who may share the lease. Idempotent. Raises `NotFound`."""
    token = session.get(Token, token_id)
    own = token is not None and token.user_id == principal.user_id
    if (
        token is None
        or token.kind != TokenKind.LEASE
        or token.lease_id != lease.id
        or not (own or standings.allowed(session, lease, Action.SHARE, principal=principal))
    ):
        raise NotFound(
            f"You have no such token for {lease.name!r}.", hint=f"lease token ls {lease.name} shows them."
        )
    if token.revoked_at is None:
        token.revoked_at = now
        session.flush()
        said = f"{principal.name} revoked the token {token.label!r} for its endpoint"
        events.record(session, "lease.token_revoked", said, actor=principal.actor, lease_id=lease.id)


def _valid(lease: Lease) -> sa.ColumnElement[bool]:
    return sa.and_(
        Token.lease_id == lease.id,
        Token.kind == TokenKind.LEASE,
        Token.revoked_at.is_(None),
        Token.expires_at > sa.func.now(),
    )


def _check_lives(lease: Lease) -> None:
    if lease.state == LeaseState.ENDED:
        raise Gone(
            f"Lease {lease.name!r} has ended: {lease.message or 'it is over'}.",
            hint=f"Start anew: lease up {lease.name}",
        )
