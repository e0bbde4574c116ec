"""Taking leases back: what runs is suspended, what rests goes on with time anew, and nobody's files go early."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import now
from leasing.drivers.protocol import Ran
from leasing.errors import Conflict, DriverError, Invalid, OverQuota
from leasing.model import Lease, Node, Policy
from leasing.reclaim import Rule
from leasing.schema.lease import LeaseRequest, RenewRequest, ResumeRequest
from leasing.service import cluster as nodes
from leasing.service import leases, requesting, suspension
from leasing.settings.limits import LimitSettings
from leasing.states import NodeIntent, ReclaimAction, SuspendReason
from scheduler.reconcile import drains
from tests.support.cluster import IMAGE, LIMITS, Cluster
from tests.support.resting import FILE, events_of, name, on_engine, preempt, resume, suspended, sweep

SAVE = ["python", "save.py"]


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


def take_back(
    cluster: Cluster, lease: Lease, why: SuspendReason = SuspendReason.EXPIRED, rule: Rule | None = None
) -> Lease:
    def act(session: Session, row: Lease, at: datetime) -> None:
        suspension.take_back(
            session, row, why, rule=rule or Rule(), now=at, actor="reclaimer", message=f"taken: {why}"
        )

    cluster.change(lease.id, act)
    return cluster.lease(lease.id)


def ask_again(cluster: Cluster, lease: Lease, limits: LimitSettings = LIMITS, **wishes: object) -> Lease:
    cluster.change(
        lease.id,
        lambda session, row, at: suspension.resume(
            session, row, ResumeRequest.model_validate(wishes), principal=cluster.ada, limits=limits, now=at
        ),
    )
    return cluster.lease(lease.id)


def extend(cluster: Cluster, lease: Lease, **wishes: object) -> Lease:
    cluster.change(
        lease.id,
        lambda session, row, at: leases.renew(
            session, row, RenewRequest.model_validate(wishes), principal=cluster.ada, limits=LIMITS, now=at
        ),
    )
    return cluster.lease(lease.id)


def goes_on(cluster: Cluster) -> None:
    cluster.plan()
    cluster.work()


def test_one_whose_time_is_over_rests_without_time_and_gets_it_anew(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1", ttl="2h")
    cluster.driver.write_file(cluster.container(lease.id), FILE, b"weights")
    assert take_back(cluster, lease).state == "stopping"
    cluster.work()
    over = cluster.lease(lease.id)
    assert (over.state, over.suspend_reason, over.reason, over.message) == (
        "suspended", "expired", None, "taken: expired",
    )  # fmt: skip
    assert (over.ttl_seconds, over.until, over.ends_at) == (0, None, None)
    assert resume(cluster, lease).ttl_seconds == 7200, "what it was first asked for"
    goes_on(cluster)
    running = cluster.lease(lease.id)
    assert running.state == "running"
    assert running.ends_at is not None
    with cluster.sessions() as session:
        assert timedelta(minutes=119) < running.ends_at - now(session) <= timedelta(hours=2)
    assert cluster.driver.file(name(cluster, lease, 2), FILE) == b"weights"


def test_the_time_it_goes_on_with_is_said_by_who_resumes_it_within_the_limit(cluster: Cluster) -> None:
    lease = cluster.run(ttl="2h")
    take_back(cluster, lease)
    cluster.work()
    with pytest.raises(Invalid, match="the limit is 7d"):
        ask_again(cluster, lease, ttl="8d")
    with pytest.raises(Invalid, match="is in the past"):
        ask_again(cluster, lease, until="2001-01-01T00:00:00Z")
    assert cluster.lease(lease.id).state == "suspended"
    short = LimitSettings(max_ttl_seconds=3600)
    assert ask_again(cluster, lease, short).ttl_seconds == 3600, "it asks for no more than is allowed by now"
    cluster.suspend(lease.id)
    with cluster.sessions() as session:
        end = now(session) + timedelta(hours=3)
    assert ask_again(cluster, lease, until=end.isoformat()).until == end
    goes_on(cluster)
    assert cluster.lease(lease.id).ends_at == end


def test_an_idle_one_keeps_the_time_it_has_left(cluster: Cluster) -> None:
    lease = cluster.run(ttl="2h")
    take_back(cluster, lease, SuspendReason.IDLE)
    cluster.work()
    rests = cluster.lease(lease.id)
    assert (rests.state, rests.suspend_reason) == ("suspended", "idle")
    assert rests.ttl_seconds is not None
    assert 7100 < rests.ttl_seconds <= 7200


@pytest.mark.parametrize("why", [SuspendReason.IDLE, SuspendReason.EXPIRED])
def test_a_rule_may_end_it_instead(cluster: Cluster, why: SuspendReason) -> None:
    lease = cluster.run()
    take_back(cluster, lease, why, Rule(action=ReclaimAction.END))
    cluster.work()
    sweep(cluster)
    over = cluster.lease(lease.id)
    assert (over.state, over.reason, over.message) == ("ended", str(why), f"taken: {why}")
    assert on_engine(cluster) == ([], [], [])


def test_no_rule_ends_what_rests_with_files_before_its_retention(cluster: Cluster) -> None:
    rests, waits = suspended(cluster), suspended(cluster)
    resume(cluster, waits)
    for one in (rests, waits):
        over = take_back(cluster, one, SuspendReason.EXPIRED, Rule(action=ReclaimAction.END))
        assert (over.state, over.suspend_reason, over.ttl_seconds) == ("suspended", "expired", 0)
        assert over.retain_until is not None
    assert cluster.lease(rests.id).retain_until == rests.retain_until, "as it was said"
    assert sweep(cluster) == []


def test_a_rule_that_only_warns_of_idleness_still_minds_the_time(cluster: Cluster) -> None:
    lease = cluster.run()
    warns = Rule(action=ReclaimAction.WARN)
    assert take_back(cluster, lease, SuspendReason.IDLE, warns).state == "running"
    assert take_back(cluster, lease, SuspendReason.EXPIRED, warns).goal == "suspended"


def test_what_has_never_run_ends_and_what_waits_to_go_on_rests_again(cluster: Cluster) -> None:
    placed = cluster.ask(gpu="1")
    cluster.plan()
    waiting = cluster.ask()
    assert cluster.lease(placed.id).state == "placed"
    for one in (waiting, placed):
        take_back(cluster, one)
    cluster.work()
    for one in (waiting, placed):
        assert cluster.lease(one.id).reason == "expired"
    gave_way = suspended(cluster)
    resume(cluster, gave_way)
    for _ in range(2):
        rests = take_back(cluster, gave_way)
        assert (rests.state, rests.suspend_reason, rests.ttl_seconds) == ("suspended", "expired", 0)
    assert sweep(cluster) == []


def test_one_that_was_about_to_go_on_keeps_its_files(cluster: Cluster) -> None:
    lease = suspended(cluster)
    resume(cluster, lease)
    cluster.plan()
    assert take_back(cluster, lease).goal == "suspended"
    cluster.work()
    rests = cluster.lease(lease.id)
    assert (rests.state, rests.ttl_seconds) == ("suspended", 0)
    resume(cluster, lease)
    goes_on(cluster)
    assert cluster.driver.file(name(cluster, lease, 3), FILE) == b"weights"


def test_taken_back_twice_or_while_it_stops_is_once(cluster: Cluster) -> None:
    lease = cluster.run(preemptible=True)
    preempt(cluster, lease)
    assert take_back(cluster, lease).suspend_reason == "preempted", "it is on its way already"
    cluster.release(lease.id)
    cluster.work()
    assert take_back(cluster, lease).reason == "released"


def test_its_files_stay_as_long_as_its_policy_says_and_its_owner_wants(cluster: Cluster) -> None:
    lease = suspended(cluster)
    assert lease.suspended_at is not None
    assert lease.retain_until == lease.suspended_at + timedelta(days=7)
    assert extend(cluster, lease, ttl="3d").retain_until == lease.suspended_at + timedelta(days=10)
    with pytest.raises(Invalid, match="kept for 30d from now at most"):
        extend(cluster, lease, ttl="21d")
    assert resume(cluster, lease).retain_until is None, "it is wanted"
    cluster.suspend(lease.id)
    assert cluster.lease(lease.id).retain_until is not None
    with cluster.sessions.begin() as session:
        session.add(Policy(name="archive", lease_id=lease.id, retention_seconds=0))
    resume(cluster, lease)
    cluster.suspend(lease.id)
    kept = cluster.lease(lease.id)
    assert (kept.state, kept.retain_until) == ("suspended", None)
    with pytest.raises(Conflict, match="for as long as nobody releases it"):
        extend(cluster, lease, ttl="1d")


def test_it_retires_when_nobody_came_and_not_before(cluster: Cluster) -> None:
    lease = suspended(cluster)

    def retire(session: Session, row: Lease, at: datetime) -> None:
        suspension.retire(session, row, now=at, actor="reclaimer")

    cluster.change(lease.id, retire)
    assert cluster.lease(lease.id).state == "suspended", "not yet"

    def a_week_later(session: Session, row: Lease, at: datetime) -> None:
        row.suspended_at, row.retain_until = at - timedelta(days=7), at
        retire(session, row, at)
        retire(session, row, at)

    cluster.change(lease.id, a_week_later)
    over = cluster.lease(lease.id)
    assert (over.state, over.reason, over.message) == ("ended", "expired", "nobody resumed it within 7d")
    sweep(cluster)
    assert on_engine(cluster) == ([], [], [])


def saved(cluster: Cluster, lease: Lease) -> list[tuple[str, str]]:
    return [one for one in events_of(cluster, lease) if one[0] in ("lease.saved", "lease.unsaved")]


@pytest.mark.parametrize(
    ("ran", "said"),
    [
        (Ran(exit_code=0, output="epoch 7\nsaved\n"), ("lease.saved", "succeeded after 0.0 s: saved")),
        (Ran(exit_code=3, output=""), ("lease.unsaved", "failed with exit code 3")),
        (Ran(exit_code=None, output="saving"), ("lease.unsaved", "was cut off after 60 s: saving")),
        (DriverError("It is paused."), ("lease.unsaved", "failed with exit code 126: It is paused.")),
    ],
)
def test_its_own_command_runs_before_it_stops_and_never_keeps_it(
    cluster: Cluster, ran: Ran | DriverError, said: tuple[str, str]
) -> None:
    lease = cluster.run(gpu="1", on_suspend=SAVE, preemptible=True)
    ordered: list[object] = []

    def answer(container: str, command: object) -> Ran:
        ordered.append((container, list(command), cluster.driver.inspect(container).state))  # type: ignore[call-overload, union-attr]  # it is there
        if isinstance(ran, DriverError):
            raise ran
        return ran

    cluster.driver.knobs.ran = answer
    preempt(cluster, lease)
    cluster.work()
    assert ordered == [(cluster.container(lease.id), SAVE, "running")]
    assert saved(cluster, lease) == [(said[0], f"its on-suspend command {said[1]}")]
    assert cluster.lease(lease.id).state == "queued", "it gave way all the same"


def test_it_runs_only_to_suspend_and_again_if_the_engine_was_gone(cluster: Cluster) -> None:
    ended = cluster.run(on_suspend=SAVE)
    cluster.release(ended.id)
    cluster.work()
    assert saved(cluster, ended) == []
    lease = cluster.run(on_suspend=SAVE)
    calls = []

    def answer(container: str, _: object) -> Ran:
        calls.append(container)
        cluster.driver.knobs.down = len(calls) == 1
        return Ran(exit_code=0, output="")

    cluster.driver.knobs.ran = answer
    take_back(cluster, lease)
    cluster.work()
    assert cluster.lease(lease.id).state == "stopping"
    cluster.driver.knobs.down = False
    cluster.change(lease.id, lambda _, row, __: setattr(row, "retry_at", None))
    cluster.work()
    assert cluster.lease(lease.id).state == "suspended"
    assert len(calls) == 2, "at least once"


def test_what_runs_on_a_draining_node_rests_and_nothing_comes_after_it(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1", on_suspend=SAVE)
    with cluster.sessions.begin() as session:
        nodes.set_node_intent(session, "local", NodeIntent.DRAINING, principal=cluster.ada)
    assert drains.run_once(cluster.sessions) == [lease.id]
    assert drains.run_once(cluster.sessions) == [], "once"
    waits = cluster.ask()
    goes_on(cluster)
    left = cluster.lease(lease.id)
    assert (left.state, left.suspend_reason, left.message) == (
        "queued", "drained", "its node local is being drained",
    )  # fmt: skip
    assert [kind for kind, _ in saved(cluster, lease)] == ["lease.saved"]
    assert cluster.lease(waits.id).state == "queued"
    with cluster.sessions.begin() as session:
        nodes.set_node_intent(session, "local", NodeIntent.OPEN, principal=cluster.ada)
    goes_on(cluster)
    assert cluster.lease(lease.id).state == cluster.lease(waits.id).state == "running"


def test_what_never_ran_on_a_draining_node_is_not_taken(cluster: Cluster) -> None:
    lease = cluster.ask()
    cluster.plan()
    with cluster.sessions.begin() as session:
        nodes.set_node_intent(session, "local", NodeIntent.DRAINING, principal=cluster.ada)
    assert drains.run_once(cluster.sessions) == []
    cluster.work()
    assert drains.run_once(cluster.sessions) == [lease.id], "it has files by now"


@pytest.mark.parametrize(
    ("version", "code", "why"),
    [
        ("535.104.05", 0, "driver 535.104.05 is older than 550"),
        ("550.54.15", 127, "it is not in the container"),
        ("550.54.15", 0, "which a stop ends"),
    ],
)
def test_what_is_kept_is_said_and_never_more(cluster: Cluster, version: str, code: int, why: str) -> None:
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Node).values(sampler={"nvml_driver_version": version}))
    asked: list[Sequence[str]] = []

    def answer(_: str, command: Sequence[str]) -> Ran:
        asked.append(command)
        return Ran(exit_code=code, output="")

    cluster.driver.knobs.ran = answer
    lease = suspended(cluster)
    assert lease.keeps.startswith("its files; processes start anew (cuda-checkpoint: ")
    assert why in lease.keeps
    assert asked == ([] if version.startswith("535") else [["cuda-checkpoint", "--help"]])


def test_nobody_piles_up_files_by_asking_for_one_lease_after_another(cluster: Cluster) -> None:
    first = suspended(cluster)

    def ask() -> Lease:
        with cluster.sessions.begin() as session:
            return requesting.request(
                session, LeaseRequest(name="next", image=IMAGE, memory="64M"), principal=cluster.ada,
                limits=LimitSettings(suspended_per_user=1), idempotency_key=None, now=now(session),
            )  # fmt: skip

    with pytest.raises(OverQuota, match="You have 1 suspended leases, whose files are kept; the limit is 1"):
        ask()
    resume(cluster, first)
    assert ask().state == "queued"
