"""What a user and a project may have together: at every way to more of it, by many hands at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import now
from leasing.errors import OverQuota
from leasing.model import Allocation, Lease, Project, Quota
from leasing.schema.lease import LeaseRequest, RenewRequest
from leasing.service import leases, quotas, requesting
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import LeaseState
from tests.support.cluster import IMAGE, Cluster, user

LIMITS = LimitSettings(devices_per_user=100, leases_per_user=100)


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=8) as made:
        yield made


def limit(cluster: Cluster, **most: float) -> None:
    """Of ada."""
    with cluster.sessions.begin() as session:
        session.add(Quota(user_id=cluster.ada.user_id, **most))


def limit_project(cluster: Cluster, **most: float) -> None:
    """Of the project that everybody leases in."""
    with cluster.sessions.begin() as session:
        session.add(Quota(project_id=session.execute(sa.select(Project.id)).scalar_one(), **most))


def ask(session: Session, who: Principal, moment: datetime, **wishes: object) -> Lease:
    return requesting.request(
        session,
        LeaseRequest.model_validate({"image": IMAGE, "cpus": "0.1", "memory": "16M"} | wishes),
        principal=who,
        limits=LIMITS,
        idempotency_key=None,
        now=moment,
    )


def renew(cluster: Cluster, lease_id: UUID, ttl: str) -> None:
    cluster.change(
        lease_id,
        lambda session, lease, moment: leases.renew(
            session, lease, RenewRequest(ttl=ttl), principal=cluster.ada, limits=LIMITS, now=moment
        ),
    )


def test_a_user_s_own_limits_replace_the_platform_s(cluster: Cluster) -> None:
    limit(cluster, max_devices=1.5, max_leases=2)
    cluster.ask(gpu="1")
    with pytest.raises(
        OverQuota, match=r"be 2 devices for ada; the limit is 1.5 \(1 held.*Release a lease \(lease ls\)"
    ):
        cluster.ask(gpu="1")
    cluster.ask(gpu="0.5")
    with pytest.raises(OverQuota, match=r"That would be 3 live leases for ada; the limit is 2\. Release"):
        cluster.ask()


def test_thirds_and_tenths_add_up(cluster: Cluster) -> None:
    limit(cluster, max_devices=0.3, device_hours=0.3, window_hours=24)
    cluster.ask(gpu="0.1", ttl="1h")
    cluster.ask(gpu="0.2", ttl="1h")
    with pytest.raises(OverQuota, match="the limit is"):
        cluster.ask(gpu="0.001")


def test_a_project_s_limits_hold_for_all_of_its_members(cluster: Cluster) -> None:
    limit_project(cluster, max_devices=3, max_leases=2)
    with cluster.sessions.begin() as session:
        bob = user(session, "bob")
        moment = now(session)
        ask(session, bob, moment, gpu="2")
        with pytest.raises(OverQuota, match="4 devices for project default; the limit is 3"):
            ask(session, cluster.ada, moment, gpu="2")
        ask(session, cluster.ada, moment, gpu="1")
        with pytest.raises(OverQuota, match="3 live leases for project default; the limit is 2"):
            ask(session, bob, moment)


def test_device_hours_count_what_was_used_and_what_is_to_come(cluster: Cluster) -> None:
    limit(cluster, device_hours=8, window_hours=24)
    first = cluster.run(gpu="2", ttl="2h")
    with pytest.raises(
        OverQuota, match=r"That would be 10 device-hours for ada; the limit is 8 in any 1d"
    ) as no:
        cluster.ask(gpu="3", ttl="2h")
    assert "still to come of live leases, 6 asked for" in no.value.message
    assert (no.value.hint or "").startswith("There is room for 1h19m of it; lease quota")
    cluster.ask(gpu="0", ttl="24h")
    second = cluster.ask(gpu="2", ttl="1h")
    renew(cluster, second.id, "59m")  # the first one's start took a moment of the rest
    assert cluster.lease(second.id).ttl_seconds == 119 * 60
    with pytest.raises(OverQuota, match=r"0\.03333 asked for"):
        renew(cluster, second.id, "1m")
    with pytest.raises(OverQuota, match="for ada"):
        renew(cluster, first.id, "1m")
    cluster.change(
        first.id,
        lambda session, lease, moment: leases.renew(
            session,
            lease,
            RenewRequest(until=moment + timedelta(hours=1)),
            principal=cluster.ada,
            limits=LIMITS,
            now=moment,
        ),
    )
    renew(cluster, second.id, "55m")


def test_what_was_used_leaves_the_window(cluster: Cluster) -> None:
    limit(cluster, device_hours=4, window_hours=24)
    lease = cluster.run(gpu="2", ttl="2h")
    cluster.release(lease.id)
    cluster.work()
    with cluster.sessions.begin() as session:
        moment = now(session)
        ago = timedelta(hours=23)
        session.execute(
            sa.update(Allocation).values(
                created_at=moment - ago - timedelta(hours=2), released_at=moment - ago + timedelta(hours=1)
            )
        )  # of these three hours with two devices one lies before the window
    with pytest.raises(OverQuota, match=r"\(4 used, 0 still to come") as no:
        cluster.ask(gpu="1", ttl="1h")
    at = (moment + timedelta(minutes=30)).strftime("%Y-%m-%d %H:%M")
    assert f"All of it fits from {at} UTC on" in (no.value.hint or "")
    with cluster.sessions.begin() as session:
        ask(session, cluster.ada, moment + timedelta(minutes=30), gpu="1", ttl="1h")


def test_who_is_suspended_holds_nothing_and_is_checked_when_resumed(cluster: Cluster) -> None:
    limit(cluster, max_devices=2, max_leases=1, device_hours=6, window_hours=24)
    first = cluster.ask(gpu="2", ttl="1h")

    def suspend(session: Session, lease: Lease, _: datetime) -> None:
        lease.state = LeaseState.SUSPENDED

    def resume(session: Session, lease: Lease, moment: datetime) -> None:
        quotas.check_resume(session, lease, LIMITS, now=moment)

    cluster.change(first.id, suspend)
    second = cluster.ask(gpu="1", ttl="1h")
    with pytest.raises(OverQuota, match="3 devices for ada"):
        cluster.change(first.id, resume)
    cluster.release(second.id)
    cluster.change(first.id, resume)


def test_of_many_asks_at_once_so_many_are_let_in_as_fit(cluster: Cluster) -> None:
    """In threads with connections of their own: each check sees what the others have written, whichever comes first."""
    limit_project(cluster, max_devices=3, device_hours=6, window_hours=24)
    with cluster.sessions.begin() as session:
        people = [cluster.ada, user(session, "bob"), user(session, "eve"), user(session, "kim")]
    start = threading.Barrier(8)

    def one(number: int) -> bool:
        start.wait()
        try:
            with cluster.sessions.begin() as session:
                ask(session, people[number % 4], now(session), gpu="1", ttl="2h")
        except OverQuota:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(one, range(8))) == 3


def test_renewals_and_asks_at_once_do_not_wait_for_each_other_in_a_circle(cluster: Cluster) -> None:
    limit(cluster, device_hours=100, window_hours=24)
    names = [cluster.ask(gpu="1", ttl="1h", name=f"n{number}").id for number in range(4)]
    start = threading.Barrier(8)

    def one(number: int) -> None:
        start.wait()
        if number % 2:
            for _ in range(5):
                renew(cluster, names[number // 2], "10m")
        else:
            for turn in range(5):
                with cluster.sessions.begin() as session:
                    ask(session, cluster.ada, now(session), gpu="1", ttl="10m", name=f"a{number}-{turn}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(8)))
    with cluster.sessions() as session:
        seconds = session.execute(sa.select(sa.func.sum(Lease.ttl_seconds))).scalar_one()
    assert seconds == 4 * 3600 + 40 * 600
