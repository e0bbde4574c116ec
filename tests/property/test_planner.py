"""The planner over generated clusters and queues."""

from __future__ import annotations

from collections import Counter
from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from scheduler.policy.planner import plan
from scheduler.policy.snapshot import Device, Node, Placement, Snapshot, Waiting
from scheduler.policy.topology import best_connected

SPACE = UUID(int=7)
MODELS = ("A100", "H100")


@st.composite
def nodes(draw: st.DrawFn, number: int) -> Node:
    devices = tuple(
        Device(
            uuid5(SPACE, f"{number}-{index}"),
            f"GPU-{number}-{index}",
            index,
            draw(st.sampled_from(MODELS)),
            1000,
            free=draw(st.booleans()),
            unfit=draw(st.sampled_from([None, None, "lost"])),
        )
        for index in range(draw(st.integers(0, 6)))
    )
    return Node(
        uuid5(SPACE, str(number)),
        f"node-{number}",
        draw(st.integers(0, 8000)),
        draw(st.integers(0, 8000)),
        devices,
        closed=draw(st.sampled_from([None, None, None, "is cordoned"])),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    cluster = [draw(nodes(number)) for number in range(draw(st.integers(0, 4)))]
    queue = [
        Waiting(
            uuid5(SPACE, f"lease-{number}"),
            f"lease-{number}",
            draw(st.integers(0, 4)),
            draw(st.sampled_from([None, "a100", "H100"])),
            draw(st.integers(1, 4000)),
            draw(st.integers(1, 4000)),
            wait=draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 8)))
    ]
    return Snapshot(cluster, queue)


@given(snapshots())
def test_nothing_is_over_allocated_and_nobody_gets_more_than_asked(snapshot: Snapshot) -> None:
    made = plan(snapshot)
    taken = Counter(device.id for placement in made.placements for device in placement.devices)
    assert all(count == 1 for count in taken.values())
    for node in snapshot.nodes:
        mine = [one for one in made.placements if one.node.id == node.id]
        assert sum(one.lease.cpus_millis for one in mine) <= node.cpus_free_millis
        assert sum(one.lease.memory_bytes for one in mine) <= node.memory_free_bytes
        assert not (mine and node.closed)
    for placement in made.placements:
        assert len(placement.devices) == placement.lease.gpu_count
        for device in placement.devices:
            assert device.free
            assert device.unfit is None
            assert (placement.lease.gpu_model or "").casefold() in device.model.casefold()


@given(snapshots())
def test_everybody_is_placed_refused_or_told_why(snapshot: Snapshot) -> None:
    made = plan(snapshot)
    placed = {one.lease.id for one in made.placements}
    refused = {lease.id for lease, _ in made.refusals}
    assert placed | refused | set(made.blockers) == {lease.id for lease in snapshot.queue}
    assert not placed & refused
    assert not placed & set(made.blockers)
    assert all(reason for _, reason in made.refusals)
    assert all(made.blockers.values())
    assert not refused & {lease.id for lease in snapshot.queue if lease.wait}


@given(snapshots())
def test_nobody_is_overtaken_by_a_later_arrival(snapshot: Snapshot) -> None:
    made = plan(snapshot)
    positions = {lease.id: position for position, lease in enumerate(snapshot.queue)}
    waiting = min((positions[one] for one in made.blockers), default=len(positions))
    assert all(positions[one.lease.id] < waiting for one in made.placements)


@given(snapshots())
def test_a_plan_made_again_is_the_same(snapshot: Snapshot) -> None:
    assert plan(snapshot) == plan(snapshot)


def test_the_best_connected_set_is_taken() -> None:
    devices = [Device(uuid5(SPACE, str(i)), f"G{i}", i, "A100", 1, free=True) for i in range(4)]
    links = {
        frozenset(pair): 10 for pair in (("G0", "G1"), ("G0", "G2"), ("G1", "G3"), ("G0", "G3"), ("G1", "G2"))
    }
    links[frozenset(("G2", "G3"))] = 100
    assert [one.uuid for one in best_connected(devices, 2, links)] == ["G2", "G3"]
    node = Node(uuid5(SPACE, "n"), "n", 1000, 1000, devices, links=links)
    lease = Waiting(uuid5(SPACE, "l"), "l", 2, None, 1, 1, wait=True)
    (placement,) = plan(Snapshot([node], [lease])).placements
    assert isinstance(placement, Placement)
    assert [one.uuid for one in placement.devices] == ["G2", "G3"]
