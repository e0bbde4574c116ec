"""The order of service over generated queues."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from scheduler.policy.ordering import in_order
from scheduler.policy.planner import Policy, plan
from scheduler.policy.snapshot import Snapshot, Standing, Waiting
from tests.support.worlds import NOW, snapshots, waiting


def rank(lease: Waiting) -> tuple[int, bool]:
    return -lease.priority, lease.preemptible


@given(snapshots(), st.booleans())
def test_everybody_is_in_it_once_classes_in_turn_and_equals_as_they_came(
    snapshot: Snapshot, fair: bool
) -> None:
    served = in_order(snapshot.queue, snapshot.standings, NOW, fair_share=fair)
    assert sorted(one.id for one in served) == sorted(one.id for one in snapshot.queue)
    assert [rank(one) for one in served] == sorted(rank(one) for one in snapshot.queue)
    equals: dict[object, list[int]] = defaultdict(list)
    for one in served:
        equals[rank(one), one.project if fair else ""].append(one.arrival)
    assert all(arrivals == sorted(arrivals) for arrivals in equals.values())


@given(snapshots())
def test_the_order_of_the_queue_it_is_given_in_does_not_matter(snapshot: Snapshot) -> None:
    served = in_order(snapshot.queue, snapshot.standings, NOW)
    assert in_order(list(reversed(snapshot.queue)), snapshot.standings, NOW) == served


@given(snapshots())
def test_more_use_brings_no_project_forward(snapshot: Snapshot) -> None:
    before = in_order(snapshot.queue, snapshot.standings, NOW)
    standing = snapshot.standings["a"]
    more = {"a": replace(standing, used_device_seconds=standing.used_device_seconds + 5e5)}
    after = in_order(snapshot.queue, more, NOW)
    for one in snapshot.queue:
        if one.project == "a":
            assert after.index(one) >= before.index(one)


def asked(project: str, arrival: int, hours: float = 1) -> Waiting:
    return replace(
        waiting("1", f"{project}{arrival}"), project=project, arrival=arrival, seconds=hours * 3600
    )


def names(leases: list[Waiting]) -> list[str]:
    return [lease.name for lease in leases]


def test_projects_of_equal_weight_take_turns_whoever_asks_more() -> None:
    queue = [*(asked("a", number) for number in range(4)), asked("b", 4), asked("b", 5)]
    assert names(in_order(queue, {}, NOW)) == ["a0", "b4", "a1", "b5", "a2", "a3"]
    assert names(in_order(queue, {}, NOW, fair_share=False)) == ["a0", "a1", "a2", "a3", "b4", "b5"]


def test_a_weight_of_two_gets_twice_as_much() -> None:
    queue = [*(asked("a", number) for number in range(6)), *(asked("b", number) for number in range(6, 12))]
    served = names(in_order(queue, {"a": Standing(0, 2.0)}, NOW))
    assert sum(name.startswith("a") for name in served[:6]) == 4


def test_who_asks_for_longer_is_charged_for_longer() -> None:
    queue = [asked("a", 0, hours=3), asked("a", 1), *(asked("b", number) for number in range(2, 6))]
    assert names(in_order(queue, {}, NOW)) == ["a0", "b2", "b3", "b4", "a1", "b5"]


def test_the_plan_follows_the_order_and_says_it() -> None:
    queue = [replace(one, seconds=60.0 * (7 - one.arrival)) for one in (asked("a", 0), asked("b", 1))]
    made = plan(Snapshot([], queue, at=NOW, standings={"a": Standing(10.0)}))
    assert list(made.order) == [queue[1].id, queue[0].id]
    off = plan(Snapshot([], queue, at=NOW, standings={"a": Standing(10.0)}), Policy(fair_share=False))
    assert list(off.order) == [queue[0].id, queue[1].id]
    assert all(one is not other for one, other in pairwise(made.order))
