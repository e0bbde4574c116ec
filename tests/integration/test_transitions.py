"""Moving one lease and moving many, on a real PostgreSQL: the same rows, the same events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import now
from leasing.errors import Conflict
from leasing.model import Event, Lease
from leasing.service import transitions
from leasing.service.transitions import Move
from leasing.states import EDGES, Cause, EndReason, Goal, LeaseState
from tests.support.cluster import Cluster


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url) as made:
        yield made


def events(cluster: Cluster, lease: Lease) -> list[Event]:
    with cluster.sessions() as session:
        return list(
            session.execute(sa.select(Event).where(Event.lease_id == lease.id).order_by(Event.id)).scalars()
        )


SKIPPED = {"id", "arrival", "name", "created_at"}


@pytest.mark.parametrize("edge", sorted(EDGES), ids="-".join)
def test_one_move_and_many_write_the_same(cluster: Cluster, edge: tuple[LeaseState, LeaseState]) -> None:
    source, target = edge
    cause = min(EDGES[edge].causes)
    reason = EndReason.FAILED if target in {LeaseState.STOPPING, LeaseState.ENDED} else None
    goal = Goal.SUSPENDED if target is LeaseState.STOPPING else None
    alone, together = cluster.ask(), cluster.ask()
    with cluster.sessions.begin() as session:
        moment = now(session)
        session.execute(
            sa.update(Lease).values(
                state=source, goal="ended" if source is LeaseState.STOPPING else None, ends_at=moment,
                attempts=2, progress="p", blockers=["b"], claim_owner="o", claim_until=moment, retry_at=moment,
                claim_token=cluster.node_id, queued_at=moment - timedelta(hours=1),
            )
        )  # fmt: skip
    with cluster.sessions.begin() as session:
        facts: dict[str, Any] = {"now": now(session), "actor": "t", "reason": reason, "goal": goal}
        transitions.move(
            session, session.get_one(Lease, alone.id), target, cause, message="m", data={"a": 1}, **facts
        )
        seen = session.get_one(Lease, together.id)
        transitions.move_many(session, [Move(together.id, "m", {"a": 1})], source, target, cause, **facts)
        assert seen.state == target
    assert facts_of(cluster.lease(alone.id)) == facts_of(cluster.lease(together.id))
    assert events_of(cluster, alone) == events_of(cluster, together)


def facts_of(lease: Lease) -> dict[str, Any]:
    return {
        column.key: getattr(lease, column.key)
        for column in sa.inspect(Lease).columns
        if column.key not in SKIPPED
    }


def events_of(cluster: Cluster, lease: Lease) -> list[tuple[Any, ...]]:
    return [
        (one.kind, one.message, one.actor, one.from_state, one.to_state, one.reason, one.data)
        for one in events(cluster, lease)[1:]
    ]


def test_many_are_moved_along_an_edge_of_the_table_or_not_at_all(cluster: Cluster, session: Session) -> None:
    queued = cluster.ask()
    moves = [Move(queued.id, "m")]
    facts: dict[str, Any] = {"now": now(session), "actor": "t"}
    with pytest.raises(Conflict, match="queued cannot become running"):
        transitions.move_many(session, moves, LeaseState.QUEUED, LeaseState.RUNNING, Cause.STARTER, **facts)
    with pytest.raises(Conflict, match="Only 0 of 1 leases were placed"):
        transitions.move_many(session, moves, LeaseState.PLACED, LeaseState.STARTING, Cause.STARTER, **facts)
