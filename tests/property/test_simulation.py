"""Whatever is played: nothing is over-allocated at any moment, every lease ends once, and again it ends the same."""

from __future__ import annotations

from collections import Counter
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leasing.gpus import WHOLE, parse_gpu
from scheduler.policy.planner import Policy, plan
from scheduler.policy.snapshot import Device, Node, Plan, Request, Snapshot
from scheduler.simulation import play as module
from scheduler.simulation.play import play
from scheduler.simulation.world import SPACE, Asked, Options, World

MINUTES = st.integers(0, 600).map(lambda minutes: minutes * 60.0)
TIMES = st.integers(1, 300).map(lambda minutes: minutes * 60.0)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    nodes = [
        Node(
            uuid5(SPACE, f"node {number}"),
            f"node-{number}",
            8000,
            8000,
            tuple(
                Device(
                    uuid5(SPACE, f"{number} {index}"), f"G{number}{index}", index, "A100", 1000, WHOLE, 1000
                )
                for index in range(draw(st.integers(0, 4)))
            ),
        )
        for number in range(draw(st.integers(1, 3)))
    ]
    asked = [
        Asked(
            uuid5(SPACE, f"lease {number}"),
            f"lease-{number}",
            draw(st.sampled_from(["ada", "eve"])),
            draw(st.sampled_from(["a", "b"])),
            "base",
            Request(
                parse_gpu(draw(st.sampled_from(["0", "1", "2", "0.5", "0.3"]))),
                draw(st.integers(1, 9000)),
                100,
            ),
            WHOLE,
            draw(MINUTES),
            draw(TIMES),
            draw(TIMES),
            quiet_seconds=draw(st.none() | TIMES),
            priority=draw(st.sampled_from([-1, 0, 0, 1])),
            preemptible=draw(st.booleans()),
            wait=draw(st.sampled_from([True, True, True, False])),
        )
        for number in range(draw(st.integers(0, 14)))
    ]
    return World(nodes, asked, {"a": 2.0}, 0.0, 36_000.0)


@st.composite
def options(draw: st.DrawFn) -> Options:
    return Options(
        Policy(draw(st.booleans()), draw(st.booleans()), draw(st.booleans())),
        draw(st.none() | TIMES),
        draw(st.none() | TIMES),
        draw(st.none() | st.integers(1, 4)),
    )


@given(worlds(), options())
@settings(max_examples=40)
def test_nothing_is_over_allocated_and_every_lease_ends_once(world: World, tried: Options) -> None:
    seen: list[Snapshot] = []

    def watched(snapshot: Snapshot, policy: Policy, *, explain: bool) -> Plan:
        seen.append(snapshot)
        return plan(snapshot, policy, explain=explain)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "plan", watched)
        played = play(world, tried)
    total = {device.id: WHOLE for node in world.nodes for device in node.devices}
    for snapshot in seen:
        taken, cpus = Counter[UUID](), Counter[UUID]()
        for held in snapshot.held or ():
            cpus[held.node_id] += held.cpus_millis
            for device_id, share, _ in held.grants:
                taken[device_id] += share
        for node in snapshot.nodes:
            assert node.cpus_free_millis == 8000 - cpus[node.id] >= 0
            for device in node.devices:
                assert device.share_free == total[device.id] - taken[device.id] >= 0
    for one in played.served:
        assert (one.ended is None) == (one.started is None) == (one.refused is not None)
        if one.started is not None and one.ended is not None:
            assert one.started >= one.asked.at
            assert one.waited >= 0
            ran = one.ended - one.asked.at - one.waited
            assert ran == pytest.approx(tried.runs(one.asked)) or (
                one.preempted and ran > tried.runs(one.asked)
            )
        assert one.refused != "never had room"
    assert sum(played.used.values()) <= played.capacity + 1e-6
    assert play(world, tried) == played
