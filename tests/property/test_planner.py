"""The planner over generated clusters and queues."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid5

from hypothesis import given, settings

from leasing.gpus import WHOLE, GpuAsk, parse_gpu
from leasing.units import parse_cpus, parse_duration, parse_size
from scheduler.policy.planner import plan
from scheduler.policy.snapshot import Held, Node, Placement, Request, Snapshot
from scheduler.policy.topology import best_connected
from tests.support.worlds import GIB, NOW, SPACE, busy, device, snapshots, taken, waiting


@given(snapshots())
def test_nothing_is_over_allocated_and_nobody_gets_more_or_less_than_asked(snapshot: Snapshot) -> None:
    made = plan(snapshot)
    share, memory = Counter[UUID](), Counter[UUID]()
    for placement in made.placements:
        ask = placement.lease.request.gpu
        assert len({grant.device.id for grant in placement.grants}) == ask.count
        for grant in placement.grants:
            share[grant.device.id] += grant.share
            memory[grant.device.id] += grant.memory_bytes
            assert grant.share == ask.share_of(grant.device.memory_bytes)
            assert grant.memory_bytes == ask.memory_of(grant.device.memory_bytes)
            assert ask.takes(grant.device.model, instance=grant.device.instance)
    for node in snapshot.nodes:
        mine = [placement for placement in made.placements if placement.node.id == node.id]
        assert sum(one.lease.request.cpus_millis for one in mine) <= node.cpus_free_millis
        assert sum(one.lease.request.memory_bytes for one in mine) <= node.memory_free_bytes
        assert not (mine and node.closed)
        assert all(one.lease.node_id in (None, node.id) for one in mine)
        assert all(one.lease.node_name in (None, node.name) for one in mine)
        assert all(one.lease.labels.items() <= node.labels.items() for one in mine)
        for one in node.devices:
            assert share[one.id] <= one.share_free
            assert memory[one.id] <= one.memory_free_bytes
            assert one.unfit is None or not share[one.id]


@given(snapshots())
def test_everybody_is_placed_refused_or_told_why(snapshot: Snapshot) -> None:
    """What is told is what is so: whoever waits at the head has a reason against every single node."""
    made = plan(snapshot)
    placed = {one.lease.id for one in made.placements}
    refused = {lease.id for lease, _ in made.refusals}
    assert placed | refused | set(made.blockers) == {lease.id for lease in snapshot.queue}
    assert not placed & refused
    assert not placed & set(made.blockers)
    assert all(reason for _, reason in made.refusals)
    assert not refused & {lease.id for lease in snapshot.queue if lease.wait}
    for lease_id, reasons in made.blockers.items():
        ahead = sum("ahead in the queue" in reason for reason in reasons)
        room = sum("there is room for it now" in reason for reason in reasons)
        assert room <= ahead
        assert room or len(reasons) - ahead == max(1, len(snapshot.nodes)), lease_id


@given(busy())
def test_what_is_advised_is_so(snapshot: Snapshot) -> None:
    """Asked for as advised, in its own place in the queue, the lease starts."""
    made = plan(snapshot)
    by_id = {lease.id: lease for lease in snapshot.queue}
    for lease_id, reasons in made.blockers.items():
        if not reasons[-1].startswith("it would start now with "):
            continue
        lease, (option, value) = by_id[lease_id], reasons[-1].split()[-2:]
        match option:
            case "--for":
                changed = replace(lease, seconds=float(parse_duration(value)))
            case "--gpu":
                changed = replace(lease, request=replace(lease.request, gpu=parse_gpu(value)))
            case "--cpus":
                changed = replace(lease, request=replace(lease.request, cpus_millis=parse_cpus(value)))
            case _:
                changed = replace(lease, request=replace(lease.request, memory_bytes=parse_size(value)))
        gone = {one.lease.id for one in made.placements} | {one.id for one, _ in made.refusals}
        # those that were placed stay placed: the advice is about now, after this plan
        later = replace(
            snapshot,
            nodes=taken(snapshot.nodes, [one.held(NOW) for one in made.placements], -1),
            held=[*(snapshot.held or ()), *(one.held(one.until(NOW)) for one in made.placements)],
            queue=[changed if one.id == lease_id else one for one in snapshot.queue if one.id not in gone],
        )
        assert lease_id in {one.lease.id for one in plan(later).placements}, reasons[-1]


@given(snapshots())
def test_nobody_is_overtaken_by_a_later_arrival(snapshot: Snapshot) -> None:
    made = plan(snapshot)
    positions = {lease_id: position for position, lease_id in enumerate(made.order)}
    mine = {lease.id for lease in snapshot.queue if lease.reservation_id is None}
    waits = min((positions[one] for one in made.blockers if one in mine), default=len(positions))
    assert all(positions[one.lease.id] < waits for one in made.placements if one.lease.id in mine)


@given(busy())
@settings(max_examples=200)
def test_whoever_goes_ahead_delays_nobody(snapshot: Snapshot) -> None:
    """Each that waits is foretold as early as had those who went ahead of it never asked."""
    made = plan(snapshot)
    positions = {lease_id: position for position, lease_id in enumerate(made.order)}
    booked = {lease.id for lease in snapshot.queue if lease.reservation_id is not None}
    for waits, start in made.latest.items():
        if waits in booked:
            continue
        before = [lease for lease in snapshot.queue if positions[lease.id] <= positions[waits]]
        alone = plan(replace(snapshot, queue=before)).latest.get(waits)
        assert start is not None
        assert alone is not None
        assert start <= alone


@given(busy())
def test_what_is_foretold_comes_true_when_everybody_leaves_at_their_deadline(snapshot: Snapshot) -> None:
    """The queue is played forward by plans: nobody starts later than was said at first."""
    snapshot = replace(snapshot, queue=[replace(one, wait=True) for one in snapshot.queue])
    made = plan(snapshot)
    promised = {lease: start for lease, start in made.latest.items() if start is not None}
    for _ in range(60):
        held = [*(snapshot.held or ()), *(one.held(one.until(snapshot.at)) for one in made.placements)]
        for one in made.placements:
            assert snapshot.at <= promised.get(one.lease.id, snapshot.at), one.lease.name
        placed = {one.lease.id for one in made.placements}
        nodes = taken(snapshot.nodes, [one.held(NOW) for one in made.placements], -1)
        bounds = [
            moment for node in nodes for one in node.reserved for moment in (one.starts_at, one.ends_at)
        ]
        coming = [*(one.until for one in held), *(moment for moment in bounds if moment > snapshot.at)]
        if not coming:
            break
        moment = max(min(coming), snapshot.at)
        leaving = [one for one in held if one.until <= moment]
        snapshot = replace(
            snapshot,
            nodes=taken(nodes, leaving, 1),
            held=[one for one in held if one.until > moment],
            queue=[lease for lease in snapshot.queue if lease.id not in placed],
            at=moment,
        )
        made = plan(snapshot)


@given(snapshots())
def test_a_plan_made_again_is_the_same(snapshot: Snapshot) -> None:
    assert plan(snapshot) == plan(snapshot)


def test_the_best_connected_set_istaken() -> None:
    four = [device(index) for index in range(4)]
    links = {
        frozenset(pair): 10 for pair in (("G0", "G1"), ("G0", "G2"), ("G1", "G3"), ("G0", "G3"), ("G1", "G2"))
    }
    links[frozenset(("G2", "G3"))] = 100
    assert [one.uuid for one in best_connected(four, 2, links)] == ["G2", "G3"]
    node = Node(uuid5(SPACE, "n"), "n", 1000, 1000, four, links=links)
    (placement,) = plan(Snapshot([node], [waiting("2")])).placements
    assert isinstance(placement, Placement)
    assert [grant.device.uuid for grant in placement.grants] == ["G2", "G3"]


def test_a_part_goes_where_a_part_is_gone_already() -> None:
    node = Node(uuid5(SPACE, "n"), "n", 1000, 1000, [device(0), device(1, used=500), device(2)])
    whole_are_wanted = [(Request(GpuAsk(1), 1, 1), 1.0)]
    (placement,) = plan(Snapshot([node], [waiting("0.5")], whole_are_wanted)).placements
    assert [grant.device.uuid for grant in placement.grants] == ["G1"]


def test_memory_is_asked_of_the_device_that_loses_least_by_it() -> None:
    small, large = device(0, memory=24 * GIB), device(1, memory=80 * GIB)
    node = Node(uuid5(SPACE, "n"), "n", 1000, 1000, [large, small])
    first, second = plan(Snapshot([node], [waiting("20GB", "a"), waiting("60GB", "b")])).placements
    assert [one.grants[0].device.memory_bytes // GIB for one in (first, second)] == [24, 80]
    assert second.grants[0].share == 750


def test_who_is_over_in_time_goes_ahead_and_who_is_not_waits() -> None:
    until = NOW + timedelta(hours=1)
    node = Node(uuid5(SPACE, "n"), "n", 1000, 1000, [device(0), device(1, used=WHOLE)])
    other = Held(node.id, 0, 0, [(device(1).id, WHOLE, 40 * GIB)], until)
    both = replace(waiting("2", "both"), seconds=3600)
    short, long = replace(waiting("1", "short"), seconds=3600), replace(waiting("1", "long"), seconds=3601)
    for later, goes in ((short, True), (long, False)):
        made = plan(Snapshot([node], [both, later], at=NOW, held=[other]))
        assert [one.lease.name for one in made.placements] == (["short"] if goes else [])
        assert made.expected[both.id] == until


def test_who_waits_for_a_node_to_come_back_keeps_nobody_waiting() -> None:
    node = Node(uuid5(SPACE, "n"), "n", 1000, 1000, [device(0)])
    bound = replace(waiting("0", "bound"), node_id=uuid5(SPACE, "away"))
    made = plan(Snapshot([node], [bound, waiting("1", "next")], at=NOW, held=[]))
    assert [one.lease.name for one in made.placements] == ["next"]
    assert bound.id in made.blockers
    assert bound.id not in made.expected


def test_the_smallest_change_that_would_start_it_is_told() -> None:
    until = NOW + timedelta(hours=1, minutes=2)
    node = Node(uuid5(SPACE, "n"), "n", 1000, 2**30, [device(0), device(1, used=WHOLE)])
    held = [Held(node.id, 3000, 0, [(device(1).id, WHOLE, 40 * GIB)], until)]
    both, long = replace(waiting("2", "both"), seconds=3600), replace(waiting("1", "long"), seconds=7200)
    many = replace(waiting("0", "many"), request=Request(GpuAsk(0), 4000, 1))
    for queue, told in (
        ([both], "it would start now with --gpu 1"),
        ([both, long], "it would start now with --for 1h"),
        ([many], "it would start now with --cpus 1"),
    ):
        made = plan(Snapshot([node], queue, at=NOW, held=held))
        assert made.blockers[queue[-1].id][-1] == told
    full = replace(node, devices=[device(0, used=WHOLE), device(1, used=WHOLE)])
    taken = [*held, Held(node.id, 0, 0, [(device(0).id, WHOLE, 40 * GIB)], until)]
    made = plan(Snapshot([full], [both], at=NOW, held=taken))
    assert made.blockers[both.id] == ["n: needs 2 GPUs, 0 free"], "nothing that is still a GPU would do"
