"""Who gives way, over generated clusters full of leases that may have to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid5

from hypothesis import given
from hypothesis import strategies as st

from leasing.gpus import WHOLE
from scheduler.policy.filters import refusals
from scheduler.policy.planner import Policy, plan
from scheduler.policy.preemption import gives_way
from scheduler.policy.snapshot import PROTECTED, Held, Node, Snapshot, Yielding
from tests.support.worlds import GIB, NOW, SPACE, device, taken, waiting

HOUR = timedelta(hours=1)


def yielding(name: str, node: Node, *indices: int, minutes: int = 60, priority: int = 0) -> Yielding:
    grants = [(node.devices[index].id, WHOLE, 40 * GIB) for index in indices]
    held = Held(node.id, 0, 0, grants, NOW + 5 * HOUR)
    since = NOW - timedelta(minutes=minutes)
    return Yielding(uuid5(SPACE, name), name, held, "p", priority, since, worth=float(len(indices)))


def cluster(*sizes: int) -> list[Node]:
    """Nodes of so many devices, all taken."""
    return [
        Node(
            uuid5(SPACE, f"n{number}"),
            f"n{number}",
            1000,
            1000,
            [
                replace(device(index, used=WHOLE), id=uuid5(SPACE, f"d{number}-{index}"))
                for index in range(size)
            ],
        )
        for number, size in enumerate(sizes)
    ]


@st.composite
def full(draw: st.DrawFn) -> Snapshot:
    nodes = cluster(*draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    agreed = [
        yielding(
            f"y{node.name}-{index}",
            node,
            index,
            minutes=draw(st.sampled_from([1, 9, 11, 60, 600])),
            priority=draw(st.sampled_from([-1, 0, 1])),
        )
        for node in nodes
        for index in range(len(node.devices))
        if draw(st.booleans())
    ]
    lease = replace(
        waiting(draw(st.sampled_from(["1", "2", "3"]))),
        priority=draw(st.sampled_from([-1, 0, 1])),
        preemptible=draw(st.booleans()),
        seconds=3600.0,
    )
    held = [one.held for one in agreed]
    known = {part[0] for one in held for part in one.grants}
    rest = [
        Held(node.id, 0, 0, [(one.id, WHOLE, 40 * GIB)], NOW + HOUR)
        for node in nodes
        for one in node.devices
        if one.id not in known
    ]
    return Snapshot(nodes, [lease], at=NOW, held=[*held, *rest], yielding=agreed)


@given(full())
def test_only_who_agreed_comes_later_and_had_its_time_gives_way_and_nobody_in_vain(
    snapshot: Snapshot,
) -> None:
    made = plan(snapshot)
    lease = snapshot.queue[0]
    chosen = [one.victim for one in made.preemptions]
    for one in chosen:
        assert one in snapshot.yielding
        assert gives_way(one, lease)
        assert NOW - one.since >= PROTECTED
    after = taken(snapshot.nodes, [one.held for one in chosen], 1)
    assert not chosen or any(not refusals(lease, node, NOW) for node in after), "there is room then"
    for one in chosen:
        others = taken(snapshot.nodes, [other.held for other in chosen if other is not one], 1)
        assert all(refusals(lease, node, NOW) for node in others), "and not without each of them"


@given(full())
def test_if_some_node_would_have_room_somebody_gives_way(snapshot: Snapshot) -> None:
    lease = snapshot.queue[0]
    able = [one for one in snapshot.yielding if gives_way(one, lease) and NOW - one.since >= PROTECTED]
    after = taken(snapshot.nodes, [one.held for one in able], 1)
    assert bool(plan(snapshot).preemptions) is any(not refusals(lease, node, NOW) for node in after)
    assert not plan(snapshot, Policy(preemption=False)).preemptions


def test_least_work_is_wasted_and_lower_classes_go_first() -> None:
    one, other = cluster(2, 2)
    agreed = [
        yielding("old", one, 0, minutes=500),
        yielding("young", one, 1, minutes=20),
        yielding("low", other, 0, minutes=900, priority=-1),
        yielding("pair", other, 1, minutes=15),
    ]
    for ask, expected in (("1", ["low"]), ("2", ["old", "young"])):
        made = plan(
            Snapshot([one, other], [waiting(ask)], at=NOW, held=[y.held for y in agreed], yielding=agreed)
        )
        assert sorted(preemption.victim.name for preemption in made.preemptions) == expected


def test_who_is_leaving_already_is_waited_for_and_nobody_else_is_asked_to() -> None:
    (node,) = cluster(2)
    agreed = [yielding("stays", node, 0)]
    leaving = Held(node.id, 0, 0, [(node.devices[1].id, WHOLE, 40 * GIB)], NOW)
    lease = waiting("1")
    made = plan(Snapshot([node], [lease], at=NOW, held=[agreed[0].held, leaving], yielding=agreed))
    assert made.preemptions == []
    assert made.latest[lease.id] == NOW


def test_only_the_head_of_the_queue_has_somebody_leave() -> None:
    (node,) = cluster(2)
    agreed = [yielding("a", node, 0), yielding("b", node, 1)]
    first, second = waiting("1", "first"), replace(waiting("1", "second"), arrival=1)
    made = plan(Snapshot([node], [first, second], at=NOW, held=[y.held for y in agreed], yielding=agreed))
    assert [one.by.name for one in made.preemptions] == ["first"]
