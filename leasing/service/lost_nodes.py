"""Giving up a node that does not come back: what was there is lost, and nobody waits for it any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import Conflict
from leasing.model import Lease, Node, Run, Warm, Workspace
from leasing.service import closing, events, nodes, suspension, transitions
from leasing.service.principal import Principal
from leasing.states import Cause, EndReason, Goal, LeaseState, NodeHealth, NodeIntent

KEPT_THERE = sa.and_(Lease.kept_container.is_not(None), Lease.state != LeaseState.ENDED)
"""With `kept_node_id`: leases whose files a node keeps."""
OPEN_RUN = sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None))
LIES_THERE = sa.and_(Workspace.deleted_at.is_(None), Workspace.last_used_at.is_not(None))
"""With `node_id`: workspaces with files on a node."""


def give_up(session: Session, name: str, *, principal: Principal, now: datetime) -> None:
    """End every lease that has its container or its files there, and place nothing there any more. Idempotent.

    All at once or not at all; what a worker had under way there finds its claim gone. Raises `NotFound`, and `Conflict`
    while the node answers.
    """
    node = nodes.locked(session, name)
    if node.health == NodeHealth.READY:
        raise Conflict(
            f"Node {name!r} answers: it is not lost.",
            hint=f"To have its leases go on elsewhere, with their files: lease admin nodes drain {name}",
        )
    message = f"{principal.name} declared node {name} lost"
    loss = _Loss(session, node.id, message, principal.actor, now)
    loss.leases()
    session.execute(sa.delete(Warm).where(Warm.node_id == node.id))
    if node.health != NodeHealth.LOST:
        node.health, node.health_reason = NodeHealth.LOST, f"{principal.name} declared it lost"
        node.intent = NodeIntent.CORDONED
        events.record(session, "node.lost", message, actor=principal.actor, node_id=node.id)
        loss.workspaces()


def leases_there(session: Session) -> Counter[UUID]:
    """By node, how many leases have their container or their files there."""
    there = sa.union(
        sa.select(Run.node_id, Run.lease_id).where(Run.released_at.is_(None)),
        sa.select(Lease.kept_node_id, Lease.id).where(KEPT_THERE),
    ).subquery()
    rows = session.execute(sa.select(there.c.node_id, sa.func.count()).group_by(there.c.node_id))
    return Counter(dict(rows.all()))


def workspaces_there(session: Session) -> Counter[UUID]:
    """By node, how many workspaces have files there."""
    rows = session.execute(
        sa.select(Node.id, sa.func.count())
        .join(Workspace, Workspace.node_id == Node.id)
        .where(LIES_THERE)
        .group_by(Node.id)
    )
    return Counter(dict(rows.all()))


@dataclass(frozen=True)
class _Loss:
    """What is said of each lease, and by whom."""

    session: Session
    node_id: UUID
    message: str
    actor: str
    now: datetime

    def leases(self) -> None:
        there = sa.or_(Run.node_id == self.node_id, sa.and_(KEPT_THERE, Lease.kept_node_id == self.node_id))
        # Locked first, and only then read: whoever had a lease until now may have closed its run.
        locked = self.session.execute(
            sa.select(Lease.id)
            .outerjoin(Run, OPEN_RUN)
            .where(there)
            .order_by(Lease.id)
            .with_for_update(of=Lease, key_share=True)
        ).scalars()
        # an outer join's columns may be None, which its own type does not say
        found: Sequence[Any] = self.session.execute(
            sa.select(Lease, Run, sa.func.coalesce(Workspace.node_id == self.node_id, False))
            .outerjoin(Run, OPEN_RUN)
            .outerjoin(Workspace, Workspace.id == Lease.workspace_id)
            .where(there, Lease.id.in_(locked.all()))
            .order_by(Lease.id)
            .execution_options(populate_existing=True)
        ).all()
        here = [run for _, run, _ in found if run is not None and run.node_id == self.node_id]
        closing.close(self.session, here, now=self.now)
        for lease, run, has_workspace in found:
            if lease.kept_container is not None:
                unhurt = lease.kept_node_id != self.node_id
            else:
                unhurt = run.started_at is None and not has_workspace
            if run is not None and run.node_id != self.node_id:
                self._stop_elsewhere(lease)
            elif unhurt:
                self._leave(lease)
            else:
                self._end(lease)

    def _leave(self, lease: Lease) -> None:
        """It had nothing there that it could lose: it goes on elsewhere, or rests with the files that it has."""
        if lease.state in (LeaseState.PLACED, LeaseState.STARTING):
            lease.attempts = 0
            self._move(lease, LeaseState.QUEUED)
        elif lease.goal == Goal.SUSPENDED and lease.kept_container is not None:
            suspension.keep_time(lease, self.now)
            suspension.rest(
                self.session, lease, Cause.ADMIN, now=self.now, actor=self.actor, message=lease.message
            )
        else:
            self._end(lease)

    def _end(self, lease: Lease) -> None:
        """As lost, but for one that was on its way to an end anyway: that keeps its reason."""
        if lease.reason is not None:
            self._move(lease, LeaseState.ENDED)
            return
        lease.message = ""  # of what it was to be stopped for, which is not why it ends
        self._move(lease, LeaseState.ENDED, reason=EndReason.LOST)

    def _stop_elsewhere(self, lease: Lease) -> None:
        """It was going on at another node, with files that were here: what is begun there goes."""
        if lease.state in (LeaseState.PLACED, LeaseState.STARTING):
            self._move(lease, LeaseState.STOPPING, reason=EndReason.LOST, goal=Goal.ENDED)
        elif lease.goal == Goal.SUSPENDED:
            lease.goal, lease.reason, lease.message = Goal.ENDED, EndReason.LOST, self.message
            events.record(self.session, "lease.lost", self.message, actor=self.actor, lease_id=lease.id)

    def _move(
        self, lease: Lease, target: LeaseState, *, reason: EndReason | None = None, goal: Goal | None = None
    ) -> None:
        transitions.move(
            self.session, lease, target, Cause.ADMIN,
            now=self.now, actor=self.actor, message=self.message, reason=reason, goal=goal,
        )  # fmt: skip

    def workspaces(self) -> None:
        """They are lost for as long as their node is; whoever they belong to says when to begin anew."""
        rows = self.session.execute(
            sa.select(Workspace.id, Workspace.name).where(LIES_THERE, Workspace.node_id == self.node_id)
        )
        for workspace_id, name in rows.all():
            events.record(
                self.session, "workspace.lost", f"{self.message}, and workspace {name} with it",
                actor=self.actor, node_id=self.node_id, data={"workspace": str(workspace_id)},
            )  # fmt: skip
