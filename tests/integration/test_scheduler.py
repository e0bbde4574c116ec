"""The scheduler on a real PostgreSQL, with an engine in memory: rows and containers, and never a surprise."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.errors import DriverError, EngineDown, NeverFits, OverQuota
from leasing.model import Allocation, Device, DeviceUsage, Event, Lease, Run
from leasing.schema.lease import LeaseRequest, RenewRequest
from leasing.service import leases, requesting, views
from leasing.settings.limits import LimitSettings
from scheduler import planning
from scheduler.clock import Clock
from scheduler.reclaim import Reclaimer
from scheduler.reconcile import notices
from scheduler.reconcile.orphans import Orphans
from tests.support.cluster import Cluster


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=8) as made:
        yield made


def states(cluster: Cluster, lease_id: UUID) -> list[str | None]:
    with cluster.sessions() as session:
        return list(
            session.execute(
                sa.select(Event.to_state)
                .where(Event.lease_id == lease_id, Event.to_state.is_not(None))
                .order_by(Event.id)
            ).scalars()
        )


def test_a_lease_lives_from_request_to_end(cluster: Cluster) -> None:
    lease = cluster.run(gpu="2", ttl="1h")
    spec = cluster.driver.spec(cluster.container(lease.id))
    assert len(spec.device_uuids) == 2
    assert lease.ends_at is not None
    assert lease.started_at is not None
    assert lease.ends_at - lease.started_at == timedelta(hours=1)
    notices.run_once(cluster.sessions, cluster.fleet, cluster.installation)
    told = json.loads(cluster.driver.file(spec.name, "/run/lease/info.json") or b"")
    assert told == {"lease": str(lease.id), "name": lease.name, "ends_at": lease.ends_at.isoformat()}

    cluster.release(lease.id)
    cluster.release(lease.id)  # twice is once
    cluster.work()
    ended = cluster.lease(lease.id)
    assert (ended.state, ended.reason) == ("ended", "released")
    assert states(cluster, lease.id) == ["queued", "placed", "starting", "running", "stopping", "ended"]
    assert cluster.driver.containers(cluster.installation) == []
    assert cluster.driver.networks(cluster.installation) == []
    with cluster.sessions() as session:
        assert session.execute(sa.select(sa.func.sum(DeviceUsage.share_used))).scalar_one() == 0
        assert (
            session.execute(sa.select(sa.func.count()).where(Allocation.released_at.is_(None))).scalar_one()
            == 0
        )


def test_who_waits_knows_its_place_and_why(cluster: Cluster) -> None:
    holder = cluster.run(gpu="7")
    first, second = cluster.ask(gpu="8"), cluster.ask(gpu="1", ttl="1d")
    cluster.plan()
    with cluster.sessions() as session:
        moment = now(session)
        why = views.why(session, session.get_one(Lease, first.id), now=moment)
        assert why.position == 1
        assert why.blockers == ["local: needs 8 GPUs, 1 free", "it would start now with --gpu 1"]
        behind = views.why(session, session.get_one(Lease, second.id), now=moment)
        assert behind.position == 2
        assert behind.blockers[0] == "1 lease is ahead in the queue"
        assert [one.lease for one in views.queue(session, now=now(session)).items] == [
            first.name,
            second.name,
        ]

    for leaves, comes in ((holder, first), (first, second)):
        cluster.release(leaves.id)
        cluster.work()
        cluster.plan()
        cluster.work()
        assert cluster.lease(comes.id).state == "running"


def test_who_would_not_wait_is_refused_at_once(cluster: Cluster) -> None:
    cluster.run(gpu="8")
    lease = cluster.ask(gpu="1", wait=False)
    cluster.plan()
    ended = cluster.lease(lease.id)
    assert (ended.state, ended.reason) == ("ended", "cancelled")
    assert "needs 1 GPU, 0 free" in ended.message


def test_more_than_there_is_anywhere_is_refused_with_what_there_is(cluster: Cluster) -> None:
    for wish, said in (
        ({"gpu": "9"}, "the largest has 8"),
        ({"gpu": "H100"}, "NVIDIA A100-SXM4-40GB"),
        ({"cpus": "65"}, "the largest has 64"),
        ({"memory": "1P"}, "the largest has 256G"),
    ):
        with pytest.raises(NeverFits, match=said):
            cluster.ask(**wish)


def test_a_quota_is_named_with_its_limit(cluster: Cluster) -> None:
    with cluster.sessions.begin() as session, pytest.raises(OverQuota, match="the limit is 2"):
        requesting.request(
            session, LeaseRequest(gpu="3"), principal=cluster.ada, limits=LimitSettings(devices_per_user=2),
            idempotency_key=None, now=now(session),
        )  # fmt: skip


def test_two_hundred_at_once_for_eight_devices_with_two_planners(cluster: Cluster) -> None:
    """Never one device twice, whoever plans and however the requests come."""
    stop = threading.Event()

    def plan_on() -> None:
        while not stop.is_set():
            planning.run_once(cluster.sessions, cluster.settings)

    planners = [threading.Thread(target=plan_on) for _ in range(2)]
    for planner in planners:
        planner.start()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: cluster.ask(gpu="1", cpus="0.1"), range(200)))
    stop.set()
    for planner in planners:
        planner.join()
    cluster.plan()
    with cluster.sessions() as session:
        held = (
            session.execute(sa.select(Allocation.device_id).where(Allocation.released_at.is_(None)))
            .scalars()
            .all()
        )
        assert len(held) == len(set(held)) == 8
        counts = dict(session.execute(sa.select(Lease.state, sa.func.count()).group_by(Lease.state)).all())
        assert counts == {"placed": 8, "queued": 192}
        first = session.execute(sa.select(Lease.arrival).where(Lease.state == "placed")).scalars().all()
        assert max(first) < min(
            session.execute(sa.select(Lease.arrival).where(Lease.state == "queued")).scalars()
        )


def test_the_database_itself_refuses_a_device_twice(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1")
    with cluster.sessions() as session:
        run_id, device_id = session.execute(
            sa.select(Allocation.run_id, Allocation.device_id).join(Run).where(Run.lease_id == lease.id)
        ).one()
        session.execute(
            sa.text("DROP INDEX uq_allocation_open")
        )  # even without the index that refuses it first
        session.add(Allocation(run_id=run_id, device_id=device_id, share=1, memory_bytes=0))
        with pytest.raises(sa.exc.IntegrityError, match="device_usage_share"):
            session.flush()


def test_a_device_with_a_foreign_process_is_left_out_and_said_to_be(cluster: Cluster) -> None:
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Device).where(Device.index < 2).values(foreign_since=now(session)))
    lease = cluster.ask(gpu="7")
    cluster.plan()
    blockers = cluster.lease(lease.id).blockers
    assert "device 0 left out: used by a process that no lease owns" in blockers[0]


def test_a_start_that_fails_is_tried_again_and_then_ends_with_the_reason(cluster: Cluster) -> None:
    lease = cluster.ask()
    cluster.plan()
    cluster.driver.knobs.start_error = DriverError("The image has no executable /nope.")
    cluster.work_through_every_try()
    ended = cluster.lease(lease.id)
    assert (ended.state, ended.reason) == ("ended", "failed")
    assert "/nope" in ended.message
    assert cluster.driver.containers(cluster.installation) == []


def test_an_engine_that_is_away_costs_nobody_their_start(cluster: Cluster) -> None:
    lease = cluster.ask()
    cluster.plan()
    cluster.driver.knobs.down = True
    for _ in range(10):
        cluster.work()
        with cluster.sessions.begin() as session:
            session.execute(sa.update(Lease).values(retry_at=None))
    assert cluster.lease(lease.id).state == "starting"
    with pytest.raises(EngineDown):
        cluster.driver.probe()
    cluster.driver.knobs.down = False
    cluster.work()
    assert cluster.lease(lease.id).state == "running"


def test_an_unknown_image_ends_the_lease_in_clear_words(cluster: Cluster) -> None:
    lease = cluster.ask(image="nosuch.example/x:1")
    cluster.plan()
    cluster.work()
    ended = cluster.lease(lease.id)
    assert (ended.state, ended.reason) == ("ended", "failed")
    assert "no image nosuch.example/x:1" in ended.message


def test_released_while_starting_leaves_nothing(cluster: Cluster) -> None:
    lease = cluster.ask()
    cluster.plan()
    cluster.release(lease.id)
    cluster.work()
    assert cluster.lease(lease.id).state == "ended"
    assert cluster.driver.containers(cluster.installation) == []


@pytest.mark.parametrize(("code", "reason"), [(0, "completed"), (3, "failed")])
def test_a_command_that_ends_ends_its_lease_with_the_exit_code(
    cluster: Cluster, code: int, reason: str
) -> None:
    lease = cluster.run()
    cluster.driver.say(cluster.container(lease.id), b"last words\n")
    cluster.driver.exit(cluster.container(lease.id), code)
    cluster.compare()
    cluster.work()
    ended = cluster.lease(lease.id)
    assert (ended.state, ended.reason, ended.exit_code) == ("ended", reason, code)
    assert ended.last_log == "last words\n"


def test_out_of_memory_is_named_as_such(cluster: Cluster) -> None:
    lease = cluster.run()
    cluster.driver.exit(cluster.container(lease.id), 137, oom=True)
    cluster.compare()
    cluster.work()
    ended = cluster.lease(lease.id)
    assert ended.oom_killed
    assert "out of memory" in ended.message


def test_an_engine_s_restart_is_the_same_run_again(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1")
    ends_at = lease.ends_at
    cluster.driver.restart_engine()
    cluster.compare()
    cluster.work()
    again = cluster.lease(lease.id)
    assert (again.state, again.ends_at) == ("running", ends_at)
    assert states(cluster, lease.id)[-2:] == ["starting", "running"]
    with cluster.sessions() as session:
        assert session.execute(sa.select(sa.func.count()).select_from(Run)).scalar_one() == 1
    cluster.compare()
    assert cluster.lease(lease.id).state == "running"


def test_a_container_that_somebody_removed_ends_its_lease_as_lost(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1")
    cluster.driver.forget(cluster.container(lease.id))
    cluster.compare()
    ended = cluster.lease(lease.id)
    assert (ended.state, ended.reason) == ("ended", "lost")
    with cluster.sessions() as session:
        assert session.execute(sa.select(sa.func.sum(DeviceUsage.share_used))).scalar_one() == 0


def test_an_orphan_goes_after_its_grace_and_nobody_else_s_does(cluster: Cluster) -> None:
    lease = cluster.run()
    with cluster.sessions.begin() as session:  # the row is lost, as after a restored backup
        session.execute(sa.update(Run).values(released_at=now(session)))
        session.execute(sa.update(Lease).values(state="ended", reason="released", ended_at=now(session)))
    patient = Orphans(cluster.sessions, cluster.installation, grace_seconds=3600, lost_keep_days=7)
    assert patient.run_once(cluster.driver, cluster.node_id) == []
    other = Orphans(cluster.sessions, "ffffffff", grace_seconds=0, lost_keep_days=7)
    assert other.run_once(cluster.driver, cluster.node_id) == []
    eager = Orphans(cluster.sessions, cluster.installation, grace_seconds=0, lost_keep_days=7)
    removed = eager.run_once(cluster.driver, cluster.node_id)
    assert removed == [cluster.container(lease.id), f"leasing-{cluster.installation}-{lease.id.hex[:12]}"]
    assert cluster.driver.containers(cluster.installation) == []


def test_a_worker_whose_claim_ran_out_writes_nothing(cluster: Cluster) -> None:
    """Its successor carries on; the late one finds its token worthless."""
    lease = cluster.ask()
    cluster.plan()
    late = cluster.workers("late")
    with cluster.sessions.begin() as session:
        jobs = late.claim(session)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(claim_until=now(session) - timedelta(seconds=1)))
    cluster.work(cluster.workers("next"))
    running = cluster.lease(lease.id)
    for job, work in jobs:
        work(job)
    after = cluster.lease(lease.id)
    assert (after.state, after.claim_token) == (running.state, running.claim_token) == ("running", None)
    assert len(cluster.driver.containers(cluster.installation)) == 1


def test_time_over_suspends_what_runs_and_ends_what_never_did(cluster: Cluster) -> None:
    running = cluster.run(gpu="8", ttl="1h")
    waiting = cluster.ask(gpu="1", until=(running.created_at + timedelta(hours=2)).isoformat(), ttl=None)
    with cluster.sessions.begin() as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(sa.update(Lease).where(Lease.id == running.id).values(ends_at=past))
        session.execute(sa.update(Lease).where(Lease.id == waiting.id).values(until=past))
    Reclaimer(cluster.sessions, Clock(cluster.sessions), cluster.settings).run_once()
    cluster.work()
    rests, ended = cluster.lease(running.id), cluster.lease(waiting.id)
    assert (rests.state, rests.suspend_reason, rests.reason) == ("suspended", "expired", None)
    assert (ended.state, ended.reason) == ("ended", "expired")


def test_a_renewal_moves_the_deadline_and_tells_the_container(cluster: Cluster) -> None:
    lease = cluster.run(ttl="1h")

    def extend(session: sa.orm.Session, row: Lease, moment: object) -> None:
        leases.renew(
            session,
            row,
            RenewRequest(ttl="2h"),
            principal=cluster.ada,
            limits=LimitSettings(),
            now=now(session),
        )

    cluster.change(lease.id, extend)
    renewed = cluster.lease(lease.id)
    assert renewed.ends_at is not None
    assert lease.ends_at is not None
    assert renewed.ends_at - lease.ends_at == timedelta(hours=2)
    notices.run_once(cluster.sessions, cluster.fleet, cluster.installation)
    told = cluster.driver.file(cluster.container(lease.id), "/run/lease/info.json") or b""
    assert renewed.ends_at.isoformat().encode() in told
