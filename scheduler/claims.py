"""A worker's short ownership of a lease: owner, token, until. The token is the fence that stops stale writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import Stale
from leasing.model import Lease
from leasing.states import LeaseState


@dataclass(frozen=True)
class Claim:
    """This worker owns that lease for now."""

    lease_id: UUID
    token: UUID


def take(
    session: Session, states: Collection[LeaseState], *, owner: str, limit: int, seconds: int, now: datetime
) -> list[Lease]:
    """Up to `limit` unclaimed leases in those states, now claimed; first come first. Rows that others hold are skipped.

    Fewer rows than there are may come back, so an empty result says nothing about the queue.
    """
    leases = (
        session.execute(
            sa.select(Lease)
            .where(
                Lease.state.in_(states),
                sa.or_(Lease.claim_until.is_(None), Lease.claim_until < now),
                sa.or_(Lease.retry_at.is_(None), Lease.retry_at <= now),
            )
            .order_by(Lease.arrival)
            .limit(limit)
            .with_for_update(skip_locked=True, key_share=True)
        )
        .scalars()
        .all()
    )
    for lease in leases:
        hold(lease, owner=owner, seconds=seconds, now=now)
    session.flush()
    return list(leases)


def hold(lease: Lease, *, owner: str, seconds: int, now: datetime) -> None:
    """Claim a row that this transaction has locked."""
    lease.claim_owner = owner
    lease.claim_token = uuid4()
    lease.claim_until = now + timedelta(seconds=seconds)


def of(lease: Lease) -> Claim:
    """The claim on a row just taken."""
    assert lease.claim_token is not None, "taken rows carry a token"
    return Claim(lease.id, lease.claim_token)


def enter(session: Session, claim: Claim) -> Lease:
    """The claimed row, locked. Raises `Stale` if the claim fell or passed on: then nothing may be written."""
    lease = session.execute(
        sa.select(Lease)
        .where(Lease.id == claim.lease_id, Lease.claim_token == claim.token)
        .with_for_update(key_share=True)
    ).scalar_one_or_none()
    if lease is None:
        raise Stale(f"The claim on lease {claim.lease_id} is no longer this worker's.")
    return lease


def extend(session: Session, claims: Iterable[Claim], *, seconds: int, now: datetime) -> None:
    """Keep claims that are still being worked on."""
    tokens = [claim.token for claim in claims]
    if tokens:
        session.execute(
            sa.update(Lease)
            .where(Lease.claim_token.in_(tokens))
            .values(claim_until=now + timedelta(seconds=seconds))
        )


def drop(lease: Lease, *, retry_at: datetime | None = None) -> None:
    """Let go of an entered row, to be taken up again at `retry_at`."""
    lease.claim_owner = lease.claim_token = lease.claim_until = None
    lease.retry_at = retry_at
