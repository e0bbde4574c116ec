"""Leases that are idle or nearly over, and hours that pass, without anybody waiting."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from leasing.database import now
from leasing.model import Lease, Notice, Run, Signal
from leasing.service import signals
from leasing.settings.notify import NotifySettings
from scheduler.clock import Clock
from scheduler.reclaim import Reclaimer
from tests.support.cluster import Cluster

MOVED = ("created_at", "queued_at", "started_at", "ends_at", "until", "idle_since", "reclaim_at", "suspended_at",
         "retain_until")  # fmt: skip


def pass_time(cluster: Cluster, by: timedelta) -> None:
    """As if so much time had passed: everything that was, or is to come, lies so much further back."""
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values({name: getattr(Lease, name) - by for name in MOVED}))
        session.execute(sa.update(Run).values(started_at=Run.started_at - by))
        session.execute(sa.update(Signal).values(known_since=Signal.known_since - by))
        session.execute(
            sa.update(Notice).values(created_at=Notice.created_at - by, deadline=Notice.deadline - by)
        )


def quiet_since(cluster: Cluster, lease: Lease, ago: timedelta) -> None:
    """The judge has found it quiet for so long."""
    with cluster.sessions.begin() as session:
        session.execute(
            sa.update(Lease)
            .where(Lease.id == lease.id)
            .values(
                idle_since=now(session) - ago, idle_verdict="idle", idle_reason="GPU, CPU quiet for a while",
                started_at=now(session) - ago - timedelta(hours=1),
            )
        )  # fmt: skip
        run = session.execute(
            sa.select(Run).where(Run.lease_id == lease.id, Run.released_at.is_(None))
        ).scalar_one()
        run.started_at = now(session) - ago - timedelta(hours=1)
        for kind in signals.applicable(lease, run, {}):
            session.merge(
                Signal(
                    lease_id=lease.id, kind=kind, value=0, known_since=now(session) - ago,
                    seen_at=now(session), active_at=None,
                )
            )  # fmt: skip


def silence(cluster: Cluster, lease: Lease) -> None:
    """Nothing has been heard of it for a minute; nobody has judged it since."""
    with cluster.sessions.begin() as session:
        session.execute(
            sa.update(Signal)
            .where(Signal.lease_id == lease.id)
            .values(seen_at=Signal.seen_at - timedelta(minutes=1))
        )


def notices_of(cluster: Cluster, lease_id: UUID, kind: str | None = None) -> list[Notice]:
    """In the order in which they were promised."""
    with cluster.sessions() as session:
        statement = (
            sa.select(Notice).where(Notice.lease_id == lease_id).order_by(Notice.created_at, Notice.channel)
        )
        found = list(session.execute(statement).scalars())
    return [one for one in found if kind is None or one.kind == kind]


def steps(notices: list[Notice]) -> list[tuple[str, int, str]]:
    return [(one.kind, one.step_seconds, one.channel) for one in notices]


def reclaimer(cluster: Cluster, **settings: object) -> Reclaimer:
    return Reclaimer(
        cluster.sessions, Clock(cluster.sessions), cluster.settings, NotifySettings.model_validate(settings)
    )


def clock(cluster: Cluster) -> datetime:
    with cluster.sessions() as session:
        return now(session)
