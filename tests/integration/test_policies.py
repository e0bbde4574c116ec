"""Which policy counts for a lease, who may set them, and what they may not say."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import now
from leasing.errors import Conflict, Gone, Invalid, LeasingError, NotFound
from leasing.model import Event, Policy, Project
from leasing.reclaim import NEVER, Rule
from leasing.schema.lease import LeaseRequest
from leasing.schema.policy import PolicyIn, PolicyOut
from leasing.service import policies, policymaking, requesting, views
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import ReclaimAction, Role
from scheduler import load
from tests.support.cluster import IMAGE, Cluster, user

LIMITS = LimitSettings(devices_per_user=100, leases_per_user=100)
HOUR = 3600


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=4) as made:
        yield made


@pytest.fixture
def grace(cluster: Cluster) -> Principal:
    with cluster.sessions.begin() as session:
        return user(session, "grace", Role.ADMIN)


def put(session: Session, who: Principal, name: str, **terms: Any) -> PolicyOut:
    return policymaking.put(
        session,
        name,
        PolicyIn.model_validate(terms),
        environments={IMAGE, "jupyter"},
        principal=who,
        limits=LIMITS,
        now=now(session),
    )


def rule_of(cluster: Cluster, lease_id: Any) -> Rule:
    with cluster.sessions() as session:
        return policies.effective(session, [cluster.lease(lease_id)])[lease_id]


def project_of(cluster: Cluster) -> str:
    with cluster.sessions() as session:
        return session.execute(sa.select(Project.name)).scalar_one()


def ask(cluster: Cluster, idle: str | None) -> Rule:
    """By what a lease that asks for `idle` is taken back."""
    with cluster.sessions.begin() as session:
        made = requesting.request(
            session,
            LeaseRequest(image=IMAGE, cpus="0.1", memory="16M", idle_timeout=idle),
            principal=cluster.ada,
            limits=LIMITS,
            idempotency_key=None,
            now=now(session),
        )
        return policies.effective(session, [made])[made.id]


def test_without_any_the_platform_s_own_counts(cluster: Cluster) -> None:
    assert ask(cluster, None) == Rule()
    assert (
        str(ask(cluster, None)) == "the platform's policy: suspended after 1h idle, warned 15m and 5m before"
    )
    assert ask(cluster, "never").window_seconds == NEVER
    assert str(ask(cluster, "never")) == "the platform's policy: never taken back as idle"
    assert ask(cluster, "30m").window_seconds == 1800


def test_the_most_special_counts_whole_and_at_once(cluster: Cluster, grace: Principal) -> None:
    lease = cluster.ask()
    found = Rule()
    for name, terms, window in (
        ("house", {"window_seconds": 5 * HOUR, "warnings": [60]}, 5 * HOUR),
        ("kind", {"environment": IMAGE, "window_seconds": 4 * HOUR}, 4 * HOUR),
        ("vision", {"project": project_of(cluster), "window_seconds": 3 * HOUR}, 3 * HOUR),
        ("own", {"lease": lease.name, "window_seconds": 2 * HOUR}, 2 * HOUR),
    ):
        with cluster.sessions.begin() as session:
            put(session, grace, name, **terms)
        found = rule_of(cluster, lease.id)
        assert (found.policy, found.window_seconds) == (name, window)
    assert found.warnings == Rule().warnings, "the warnings of the general one do not shine through"
    for name, next_one in (("own", "vision"), ("vision", "kind"), ("kind", "house"), ("house", "platform")):
        with cluster.sessions.begin() as session:
            policymaking.remove(session, name, principal=grace)
        assert rule_of(cluster, lease.id).policy == next_one


def test_a_lease_that_is_only_asked_for_is_not_ruled_by_the_policy_of_all_before_its_project_s(
    cluster: Cluster, grace: Principal
) -> None:
    with cluster.sessions.begin() as session:
        put(session, grace, "house", longest_seconds=HOUR)
        put(session, grace, "vision", project=project_of(cluster), longest_seconds=3 * HOUR)
    assert ask(cluster, "2h").window_seconds == 2 * HOUR
    with pytest.raises(Invalid, match=r"never is more than policy vision allows: the limit is 3h.*--idle 3h"):
        ask(cluster, "never")
    with pytest.raises(Invalid, match="4h is more than policy vision allows"):
        ask(cluster, "4h")


def test_a_lower_longest_counts_for_leases_that_asked_before_it(cluster: Cluster, grace: Principal) -> None:
    lease = cluster.ask(idle_timeout="never")
    with cluster.sessions.begin() as session:
        put(session, grace, "house", longest_seconds=3 * HOUR)
    assert rule_of(cluster, lease.id).window_seconds == 3 * HOUR
    with cluster.sessions.begin() as session:
        put(session, grace, "house", window_seconds=0)
    assert rule_of(cluster, lease.id).window_seconds == NEVER


WRONG: list[tuple[dict[str, Any], type[LeasingError], str]] = [
    ({"window_seconds": 5}, Invalid, "5 seconds of window are out of range: 1m to 366d"),
    ({"window_seconds": -1}, Invalid, "out of range"),
    ({"window_seconds": 10**12}, Invalid, "out of range"),
    ({"window_seconds": 0, "learned": True}, Invalid, "never and learned"),
    ({"window_seconds": 0, "longest_seconds": HOUR}, Invalid, "sets no longest"),
    ({"window_seconds": 2 * HOUR, "longest_seconds": HOUR}, Invalid, "shorter than the window"),
    ({"longest_seconds": 600}, Invalid, "shorter than the window, 1h"),
    ({"grace_seconds": -1}, Invalid, "grace"),
    ({"protected_seconds": 10**10}, Invalid, "protected"),
    ({"retention_seconds": 10**10}, Invalid, "retention"),
    ({"thresholds": {"mood": 1}}, Invalid, "'mood' is no signal"),
    ({"thresholds": {"keep": 1}}, Invalid, "'keep' is no signal"),
    ({"thresholds": {"gpu": 2}}, Invalid, "above 0 and 1 at most"),
    ({"thresholds": {"cpu": 0}}, Invalid, "above 0"),
    ({"thresholds": {"cpu": float("nan")}}, Invalid, "above 0"),
    ({"warnings": [300, 900]}, Invalid, "from the first"),
    ({"warnings": [300, 300]}, Invalid, "from the first"),
    ({"warnings": [86400]}, Invalid, "under a day"),
    ({"warnings": [0]}, Invalid, "above 0"),
    ({"warnings": [60, 50, 40, 30, 20, 10]}, Invalid, "too many: 5 at most"),
    ({"hours": {"days": ["mon"], "begin": "09:00", "end": "18:00", "zone": "Mars/Base"}}, Invalid, "time zone"),
    ({"hours": {"days": ["mon"], "begin": "09:00", "end": "18:00", "zone": "../../etc/passwd"}}, Invalid, "zone"),
    ({"hours": {"days": ["mon"], "begin": "09:00", "end": "18:00", "zone": "America"}}, Invalid, "time zone"),
    ({"hours": {"days": ["mon"], "begin": "09:00", "end": "18:00", "zone": ""}}, Invalid, "time zone"),
    ({"hours": {"days": [], "begin": "09:00", "end": "18:00", "zone": "UTC"}}, Invalid, "day of the week"),
    ({"hours": {"days": ["may"], "begin": "09:00", "end": "18:00", "zone": "UTC"}}, Invalid, "day of the week"),
    ({"hours": {"days": ["mon"], "begin": "9", "end": "18:00", "zone": "UTC"}}, Invalid, "time of the day"),
    ({"hours": {"days": ["mon"], "begin": "09+01", "end": "18:00", "zone": "UTC"}}, Invalid, "time of the day"),
    ({"hours": {"days": ["mon"], "begin": "09:00", "end": "09:00", "zone": "UTC"}}, Invalid, "the same time"),
    ({"project": "nowhere"}, NotFound, "no project"),
    ({"environment": "nothing"}, NotFound, "no environment"),
    ({"environment": "--privileged/x"}, NotFound, "no environment"),
    ({"lease": "nobody-s"}, NotFound, "no lease"),
    ({"lease": "a", "project": "b"}, Invalid, "one project, one environment, one lease"),
]  # fmt: skip


def test_what_a_policy_may_not_say(session: Session) -> None:
    grace = user(session, "grace", Role.ADMIN)
    for terms, error, said in WRONG:
        with pytest.raises(error, match=said) as refused, session.begin_nested():
            put(session, grace, "house", **terms)
        assert refused.value.hint, terms
    assert not session.execute(sa.select(Policy)).all()


def test_hostile_names_are_refused(session: Session) -> None:
    grace = user(session, "grace", Role.ADMIN)
    for name in ("", "House", "a b", "x" * 41, "platform", "-", "ü", "a/../b", "a\0b"):
        with pytest.raises(Invalid), session.begin_nested():
            put(session, grace, name)
    assert not session.execute(sa.select(Policy)).all()


def test_for_a_lease_that_is_over_there_is_none(cluster: Cluster, grace: Principal) -> None:
    lease = cluster.ask()
    cluster.release(lease.id)
    with pytest.raises(Gone, match="has ended"), cluster.sessions.begin() as session:
        put(session, grace, "own", lease=str(lease.id))


def test_every_change_leaves_who_and_what_it_was(cluster: Cluster, grace: Principal) -> None:
    for terms in (
        {"window_seconds": HOUR},
        {"window_seconds": HOUR},
        {"window_seconds": 2 * HOUR, "action": "end"},
    ):
        with cluster.sessions.begin() as session:
            put(session, grace, "house", **terms)
    with cluster.sessions.begin() as session:
        policymaking.remove(session, "house", principal=grace)
    with cluster.sessions() as session:
        found = session.execute(
            sa.select(Event.kind, Event.actor, Event.data)
            .where(Event.kind.like("policy.%"))
            .order_by(Event.id)
        ).all()
    assert [(kind, actor, data["changes"]) for kind, actor, data in found] == [
        ("policy.set", "user:grace", {"window_seconds": [None, HOUR]}),
        ("policy.set", "user:grace", {"window_seconds": [HOUR, 2 * HOUR], "action": [None, "end"]}),
        ("policy.removed", "user:grace", {"window_seconds": [2 * HOUR, None], "action": ["end", None]}),
    ]


def test_hours_in_a_zone_that_this_machine_does_not_know_take_nothing_back(cluster: Cluster) -> None:
    hours = {"days": [0], "from": "09:00", "to": "10:00", "zone": "Mars/Base"}
    with cluster.sessions.begin() as session:
        session.add(Policy(name="house", hours=hours))
    found = rule_of(cluster, cluster.ask().id).hours
    assert found is not None
    with cluster.sessions() as session:
        moment = now(session)
        assert all(found.cover(moment + timedelta(hours=number)) for number in range(200))
        assert policymaking.show(session, "house").hours is not None


def test_two_for_the_same_at_once_make_one(cluster: Cluster, grace: Principal) -> None:
    both = threading.Barrier(2)

    def make(name: str) -> str:
        try:
            with cluster.sessions.begin() as session:
                session.execute(sa.select(1))
                both.wait(timeout=10)
                put(session, grace, name, environment="jupyter")
        except Conflict as error:
            return error.message
        return "made"

    with ThreadPoolExecutor(2) as hands:
        said = sorted(hands.map(make, ["one", "two"]))
    assert said[1] == "made"
    assert "for the same already" in said[0]


def test_the_platform_s_own_leads_the_list_until_there_is_one_for_all(
    session: Session,
) -> None:
    grace = user(session, "grace", Role.ADMIN)
    put(session, grace, "notebooks", environment="jupyter", window_seconds=0)
    assert [one.name for one in policymaking.page(session).items] == ["platform", "notebooks"]
    assert policymaking.show(session, "notebooks").set == ["window_seconds"]
    put(session, grace, "a-house", action="warn")
    assert [(one.name, one.subject) for one in policymaking.page(session).items] == [
        ("a-house", "all"), ("notebooks", "environments/jupyter"),
    ]  # fmt: skip
    with pytest.raises(NotFound):
        policymaking.show(session, "platform")


def test_an_owner_sees_which_counts_and_why(cluster: Cluster, grace: Principal) -> None:
    lease = cluster.run()
    with cluster.sessions.begin() as session:
        put(session, grace, "vision", project=project_of(cluster), warnings=[900], action="end")
    with cluster.sessions() as session:
        row = cluster.lease(lease.id)
        shown = views.lease_out(session, row, principal=cluster.ada, now=now(session), endpoints=str)
        assert shown.policy is not None
        assert shown.policy.said == "policy vision: ended after 1h idle, warned 15m before"
        assert shown.policy.subject == f"projects/{project_of(cluster)}"
        assert shown.policy.action is ReclaimAction.END
        assert views.why(session, row, now=now(session)).policy == shown.policy.said


def test_protected_time_is_each_policy_s(cluster: Cluster, grace: Principal) -> None:
    lease = cluster.run(gpu="1", preemptible=True)
    with cluster.sessions.begin() as session:
        put(session, grace, "own", lease=lease.name, protected_seconds=30)
        moment = now(session)
        agreed = load.yielding(session, load.held(session, moment))
    assert [one.protected.total_seconds() for one in agreed] == [30]
