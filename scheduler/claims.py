"""A worker's short ownership of a lease: owner, token, until. The token is the fence that stops stale writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import Stale
from leasing.model import Lease
from leasing.service import transitions
from leasing.service.transitions import Move
from leasing.states import Cause, LeaseState

ACTOR = "starter"

# A moment further ahead than any worker writes is of a clock that was set back since: whoever still works on such a
# lease is fenced off by the new token.
FREE = sa.text("""
    SELECT id, state, now() FROM lease
    WHERE state = ANY (CAST(:states AS text[]))
        AND (claim_until IS NULL OR claim_until < now() OR claim_until > now() + make_interval(secs => 2 * :seconds))
        AND (retry_at IS NULL OR retry_at <= now() OR retry_at > now() + interval '10 minutes')
    ORDER BY arrival LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
""")
TAKE = sa.text("""
    UPDATE lease SET claim_owner = :owner, claim_token = gen_random_uuid(),
        claim_until = now() + make_interval(secs => :seconds)
    WHERE id = ANY (CAST(:ids AS uuid[]))
    RETURNING id, claim_token
""")


@dataclass(frozen=True)
class Claim:
    """This worker owns that lease for now."""

    lease_id: UUID
    token: UUID


def take(
    session: Session, states: Collection[LeaseState], *, owner: str, limit: int, seconds: int
) -> list[Claim]:
    """Up to `limit` unclaimed leases in those states, now claimed; first come first. Rows that others hold are skipped.

    Placed ones are starting from here on: a claim on them is their start. Fewer rows than there are may come back, so
    an empty result says nothing about the queue.
    """
    found = session.execute(FREE, {"states": [*states], "limit": limit, "seconds": seconds}).all()
    if not found:
        return []
    transitions.move_many(
        session,
        [
            Move(lease_id, "a worker took up its start")
            for lease_id, state, _ in found
            if state == LeaseState.PLACED
        ],
        LeaseState.PLACED, LeaseState.STARTING, Cause.STARTER, now=found[0][2], actor=ACTOR,
    )  # fmt: skip
    ids = [lease_id for lease_id, *_ in found]
    taken = session.execute(TAKE, {"ids": ids, "owner": owner, "seconds": seconds})
    tokens: dict[UUID, UUID] = dict(taken.all())
    return [Claim(lease_id, tokens[lease_id]) for lease_id in ids]


def enter(session: Session, claim: Claim) -> Lease:
    """The claimed row, locked. Raises `Stale` if the claim fell or passed on: then nothing may be written."""
    lease = session.execute(
        sa.select(Lease)
        .where(Lease.id == claim.lease_id, Lease.claim_token == claim.token)
        .with_for_update(key_share=True)
    ).scalar_one_or_none()
    if lease is None:
        raise stale(claim)
    return lease


def stale(claim: Claim) -> Stale:
    """What to raise where a claim was found to be gone."""
    return Stale(f"The claim on lease {claim.lease_id} is no longer this worker's.")


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
