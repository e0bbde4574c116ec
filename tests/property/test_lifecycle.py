"""The life cycle as properties: whatever is tried, the table rules and every change has its event."""

from __future__ import annotations

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from leasing.database import now
from leasing.errors import Conflict
from leasing.model import Event, Lease
from leasing.service import transitions
from leasing.states import (
    EDGES,
    HOLDING,
    LIVE,
    RESTING,
    STOPPABLE,
    TRANSITIONAL,
    Cause,
    EndReason,
    LeaseState,
    allowed,
)
from tests.support.cluster import user

MOVES = st.lists(st.tuples(st.sampled_from(LeaseState), st.sampled_from(Cause)), max_size=25)


def test_the_table_is_whole() -> None:
    assert {source for source, _ in EDGES} == LIVE
    assert {target for _, target in EDGES} == set(LeaseState)
    assert not {edge for edge in EDGES if edge[0] == edge[1]}
    assert HOLDING | RESTING == LIVE
    assert TRANSITIONAL < HOLDING
    assert {source for source, target in EDGES if target is LeaseState.STOPPING} == STOPPABLE


@given(moves=MOVES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_walk_stays_in_the_table_and_leaves_its_events(
    session: Session, moves: list[tuple[LeaseState, Cause]]
) -> None:
    owner = session.execute(sa.text("SELECT id FROM users LIMIT 1")).scalar_one_or_none()
    owner = owner or user(session, "walker").user_id
    project = session.execute(sa.text("SELECT id FROM project WHERE open")).scalar_one()
    moment = now(session)
    lease = Lease(
        name=f"walk-{session.execute(sa.func.count(Lease.id)).scalar_one()}", owner_id=owner,
        project_id=project, image="x", gpu_count=0, cpus_millis=1, memory_bytes=1, ends_at=moment,
    )  # fmt: skip
    session.add(lease)
    session.flush()
    transitions.born(session, lease, actor="test", message="asked")
    walked = [LeaseState.QUEUED]
    for target, cause in moves:
        before = LeaseState(lease.state)
        try:
            transitions.move(
                session,
                lease,
                target,
                cause,
                now=moment,
                actor="test",
                message="moved",
                reason=EndReason.RELEASED,
            )
        except Conflict:
            assert not allowed(before, target, cause)
            assert lease.state == before
        else:
            assert allowed(before, target, cause)
            walked.append(target)
    written = session.execute(
        sa.select(Event.to_state).where(Event.lease_id == lease.id).order_by(Event.id)
    ).scalars()
    assert list(written) == walked
    assert lease.state == walked[-1]
