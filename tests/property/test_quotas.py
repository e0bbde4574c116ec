"""Quotas as properties: whatever is asked for, extended, given back and resumed at once, no sum exceeds its limit."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from leasing.errors import LeasingError
from leasing.model import Allocation, Device, Lease, Project, Quota, Run
from leasing.schema.lease import LeaseRequest, RenewRequest
from leasing.service import leases, quotas, requesting
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import EndReason, LeaseState
from tests.support.cluster import IMAGE, Cluster, user
from tests.support.postgres import TestDatabases

HOUR = timedelta(hours=1)
LIMITS = LimitSettings(devices_per_user=3, leases_per_user=4, max_ttl_seconds=30 * 86400)
DEVICES = 32
NUMBERS = count()

QUOTAS = st.fixed_dictionaries(
    {
        "max_devices": st.sampled_from([None, 1.5, 2, 4]),
        "max_leases": st.sampled_from([None, 2, 3]),
        "hours": st.sampled_from([None, (4, 6), (6, 24), (10, 12), (0.5, 3)]),
    }
)
WHICH = st.integers(0, 5)
HOURS = st.sampled_from([1, 2, 3, 5])
ACTS = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 1), st.sampled_from(["0.25", "0.5", "1", "2", "0"]), HOURS),
    st.tuples(st.just("until"), st.integers(0, 1), st.sampled_from(["0.5", "1"]), HOURS),
    st.tuples(st.just("renew"), WHICH, st.booleans(), HOURS),
    st.tuples(st.just("resume"), WHICH),
    st.tuples(st.just("release"), WHICH),
)
BETWEEN = st.one_of(
    st.tuples(st.just("start"), WHICH),
    st.tuples(st.just("suspend"), WHICH),
    st.tuples(st.just("pass"), st.sampled_from([0.5, 1, 4])),
)
STEPS = st.lists(st.tuples(st.lists(ACTS, max_size=4), st.lists(BETWEEN, max_size=3)), min_size=2, max_size=6)


@pytest.fixture(scope="module")
def cluster(databases: TestDatabases) -> Iterator[Cluster]:
    with databases.migrated() as url, Cluster.opened(url, devices=DEVICES) as made:
        yield made


@dataclass
class World:
    """Two users in a project of their own, under limits; time passes when a step says so."""

    cluster: Cluster
    users: list[Principal]
    project: str
    project_id: UUID
    now: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    leases: list[UUID] = field(default_factory=list)

    @classmethod
    def made(cls, cluster: Cluster, of_user: dict[str, Any], of_project: dict[str, Any]) -> World:
        number = next(NUMBERS)
        with cluster.sessions.begin() as session:
            project = Project(name=f"p{number}", open=True)
            session.add(project)
            users = [user(session, f"u{number}-{name}") for name in "ab"]
            session.flush()
            session.add(Quota(user_id=users[0].user_id, **_columns(of_user)))
            session.add(Quota(project_id=project.id, **_columns(of_project)))
            return cls(cluster, users, project.name, project.id)

    def act(self, what: str, *facts: Any) -> UUID | None:
        """One user's act, in a transaction of its own; what is refused leaves nothing."""
        try:
            with self.cluster.sessions.begin() as session:
                return self._act(session, what, *facts)
        except LeasingError:
            return None

    def _act(self, session: Session, what: str, which: int, *facts: Any) -> UUID | None:
        if what in ("ask", "until"):
            gpu, hours = facts
            time = {"ttl": f"{hours}h"} if what == "ask" else {"until": self.now + hours * HOUR}
            wishes = {"image": IMAGE, "cpus": "0.01", "memory": "16M", "gpu": gpu, "project": self.project}
            return requesting.request(
                session,
                LeaseRequest.model_validate(wishes | time),
                principal=self.users[which],
                limits=LIMITS,
                idempotency_key=None,
                now=self.now,
            ).id
        if not (lease := self._lease(session, which)):
            return None
        owner = next(one for one in self.users if one.user_id == lease.owner_id)
        if what == "renew":
            to_a_moment, hours = facts
            ask = (
                RenewRequest(until=self.now + hours * HOUR) if to_a_moment else RenewRequest(ttl=f"{hours}h")
            )
            leases.renew(session, lease, ask, principal=owner, limits=LIMITS, now=self.now)
        elif what == "resume" and lease.state == LeaseState.SUSPENDED:
            quotas.check_resume(session, lease, LIMITS, now=self.now)
            lease.state = LeaseState.QUEUED
        elif what == "release" and lease.state != LeaseState.ENDED:
            _end(session, lease, self.now)
        return None

    def happen(self, what: str, fact: Any) -> None:
        """What the platform does: start, suspend, let time pass and end what is over."""
        with self.cluster.sessions.begin() as session:
            if what == "pass":
                self.now += fact * HOUR
                for lease in session.execute(
                    sa.select(Lease).where(
                        Lease.id.in_(self.leases),
                        Lease.state != LeaseState.ENDED,
                        sa.func.coalesce(Lease.ends_at, Lease.until) <= self.now,
                    )
                ).scalars():
                    end = lease.ends_at or lease.until
                    assert end is not None
                    _end(session, lease, end)
                return
            lease_or_none = self._lease(session, fact)
            if lease_or_none is None:
                return
            lease = lease_or_none
            if what == "start" and lease.state == LeaseState.QUEUED:
                self._start(session, lease)
            elif what == "suspend" and lease.state == LeaseState.RUNNING and lease.until is None:
                assert lease.ends_at is not None
                lease.ttl_seconds = int((lease.ends_at - self.now).total_seconds())
                lease.state, lease.ends_at = LeaseState.SUSPENDED, None
                _free(session, lease, self.now)

    def _start(self, session: Session, lease: Lease) -> None:
        lease.state = LeaseState.RUNNING
        lease.ends_at = lease.until or self.now + timedelta(seconds=lease.ttl_seconds or 0)
        generation = session.execute(
            sa.select(sa.func.count(Run.id)).where(Run.lease_id == lease.id)
        ).scalar_one()
        run = Run(
            lease_id=lease.id, generation=generation + 1, node_id=self.cluster.node_id, cpus_millis=1,
            memory_bytes=1,
        )  # fmt: skip
        session.add(run)
        session.flush()
        taken = sa.exists().where(Allocation.device_id == Device.id, Allocation.released_at.is_(None))
        free = session.execute(sa.select(Device.id).where(~taken).limit(lease.gpu_count)).scalars().all()
        assert len(free) == lease.gpu_count
        for device_id in free:
            session.add(
                Allocation(
                    run_id=run.id, device_id=device_id, share=lease.gpu_share, memory_bytes=0,
                    created_at=self.now,
                )
            )  # fmt: skip

    def _lease(self, session: Session, which: int) -> Lease | None:
        if not self.leases:
            return None
        return session.get(Lease, self.leases[which % len(self.leases)], with_for_update={"key_share": True})

    def check(self) -> None:
        """Counted anew, lease by lease, with other words than the quotas' own."""
        with self.cluster.sessions() as session:
            found = session.execute(sa.select(Lease).where(Lease.id.in_(self.leases))).scalars().all()
            had = session.execute(
                sa.select(Run.lease_id, Allocation.share, Allocation.created_at, Allocation.released_at)
                .join(Allocation, Allocation.run_id == Run.id)
                .where(Run.lease_id.in_(self.leases))
            ).all()
            limits = {
                (one.user_id or one.project_id): one for one in session.execute(sa.select(Quota)).scalars()
            }
        subjects = [(self.users[0].user_id, True), (self.users[1].user_id, True), (self.project_id, False)]
        for subject, is_user in subjects:
            own = [one for one in found if subject == (one.owner_id if is_user else one.project_id)]
            live = [one for one in own if one.state not in (LeaseState.ENDED, LeaseState.SUSPENDED)]
            limit = limits.get(subject) or Quota()
            most_devices = limit.max_devices if limit.max_devices is not None or not is_user else 3
            most_leases = limit.max_leases if limit.max_leases is not None or not is_user else 4
            if most_devices is not None:
                assert sum(one.gpu_count * one.gpu_share for one in live) <= most_devices * 1000
            if most_leases is not None:
                assert len(live) <= most_leases
            if limit.device_hours is not None:
                ids = {one.id for one in own}
                since = self.now - (limit.window_hours or 0) * HOUR
                used = sum(
                    share * max(timedelta(), (end or self.now) - max(start, since)) / HOUR
                    for lease_id, share, start, end in had
                    if lease_id in ids
                )
                ahead = sum(one.gpu_count * one.gpu_share * self._left(one) / HOUR for one in live)
                assert used + ahead <= limit.device_hours * 1000 + 1e-6

    def _left(self, lease: Lease) -> timedelta:
        end = lease.ends_at or lease.until
        return max(timedelta(), end - self.now) if end else timedelta(seconds=lease.ttl_seconds or 0)

    def clear(self) -> None:
        with self.cluster.sessions.begin() as session:
            for lease in session.execute(sa.select(Lease).where(Lease.id.in_(self.leases))).scalars():
                if lease.state != LeaseState.ENDED:
                    _end(session, lease, self.now)


@given(of_user=QUOTAS, of_project=QUOTAS, steps=STEPS)
@settings(max_examples=30)
def test_no_sum_ever_exceeds_its_limit(
    cluster: Cluster, of_user: dict[str, Any], of_project: dict[str, Any], steps: list[Any]
) -> None:
    world = World.made(cluster, of_user, of_project)
    with ThreadPoolExecutor(4) as threads:
        for acts, between in steps:
            for made in list(threads.map(lambda one: world.act(*one), acts)):
                if made is not None:
                    world.leases.append(made)
            world.check()
            for one in between:
                world.happen(*one)
                world.check()
    world.clear()


def _columns(quota: dict[str, Any]) -> dict[str, Any]:
    hours, window = quota["hours"] or (None, None)
    return {
        "max_devices": quota["max_devices"],
        "max_leases": quota["max_leases"],
        "device_hours": hours,
        "window_hours": window,
    }


def _end(session: Session, lease: Lease, moment: datetime) -> None:
    lease.state, lease.reason, lease.ended_at = LeaseState.ENDED, EndReason.RELEASED, moment
    _free(session, lease, moment)


def _free(session: Session, lease: Lease, moment: datetime) -> None:
    session.flush()
    runs = sa.select(Run.id).where(Run.lease_id == lease.id, Run.released_at.is_(None))
    session.execute(
        sa.update(Allocation)
        .where(Allocation.run_id.in_(runs), Allocation.released_at.is_(None))
        .values(released_at=moment)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        sa.update(Run)
        .where(Run.lease_id == lease.id, Run.released_at.is_(None))
        .values(released_at=moment)
        .execution_options(synchronize_session=False)
    )
