"""Reservations in the planner: what is promised is kept, and what nobody uses yet may be used until then."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid5

import pytest
from hypothesis import given

from leasing.gpus import WHOLE, GpuAsk, parse_gpu
from scheduler.policy.planner import plan
from scheduler.policy.snapshot import Held, Node, Request, Reserved, Snapshot, Waiting
from tests.support.worlds import GIB, NOW, SPACE, busy, device, snapshots, waiting

HOUR = timedelta(hours=1)


@given(snapshots())
def test_nobody_stays_on_a_promised_device_beyond_its_time(snapshot: Snapshot) -> None:
    for placement in plan(snapshot).placements:
        end = placement.until(NOW)
        given_devices = {grant.device.id for grant in placement.grants}
        for one in placement.node.reserved:
            if one.id == placement.lease.reservation_id:
                assert one.starts_at <= NOW
                assert end <= one.ends_at
                assert given_devices <= one.device_ids
            elif given_devices & one.device_ids:
                assert end <= one.starts_at or one.ends_at <= NOW


@given(snapshots())
def test_only_who_agreed_is_cut_and_not_below_what_it_agreed_to(snapshot: Snapshot) -> None:
    for placement in plan(snapshot).placements:
        lease = placement.lease
        if placement.ends_before is not None and lease.reservation_id is None:
            assert lease.at_least_seconds is not None
            assert placement.ends_before >= NOW + timedelta(seconds=lease.at_least_seconds)
            assert placement.ends_before < lease.end(NOW)


@given(busy())
def test_what_is_kept_of_a_node_is_still_there_after_the_plan(snapshot: Snapshot) -> None:
    """Of CPUs and memory, whoever stays into a reservation's time leaves as much as it is promised."""
    made = plan(snapshot)
    for node in snapshot.nodes:
        for one in node.reserved:
            staying = [
                placement
                for placement in made.placements
                if placement.node.id == node.id
                and placement.lease.reservation_id != one.id
                and placement.until(NOW) > max(one.starts_at, NOW)
                and one.ends_at > NOW
            ]
            cpus = sum(placement.lease.request.cpus_millis for placement in staying)
            assert not cpus or node.cpus_free_millis - cpus >= one.cpus_millis


def booked(node: Node, starts: datetime, *indices: int, cpus_millis: int = 0) -> Node:
    found = Reserved(
        uuid5(SPACE, f"booked-{starts}"),
        "talk",
        frozenset(node.devices[index].id for index in indices),
        cpus_millis,
        0,
        starts,
        starts + 2 * HOUR,
    )
    return replace(node, reserved=[*node.reserved, found])


def lasting(ask: str, hours: float, name: str = "l", **facts: float) -> Waiting:
    return replace(waiting(ask, name), seconds=hours * 3600, **facts)  # type: ignore[arg-type]  # facts are its own fields


PLAIN = Node(uuid5(SPACE, "n"), "n", 1000, 1000, [device(0), device(1)])


def test_a_walk_in_takes_the_device_that_nobody_has_booked_or_goes_when_the_booked_begins() -> None:
    node = booked(PLAIN, NOW + HOUR, 0)
    first, second = plan(
        Snapshot(
            [node],
            [lasting("1", 4, "a", at_least_seconds=1800), lasting("1", 4, "b", at_least_seconds=1800)],
            at=NOW,
        )
    ).placements
    assert [first.grants[0].device.index, first.ends_before] == [1, None]
    assert [second.grants[0].device.index, second.ends_before] == [0, NOW + HOUR]


def test_who_would_be_cut_too_short_waits_until_the_reservation_is_over_and_is_told() -> None:
    node = booked(PLAIN, NOW + HOUR, 0, 1)
    lease = lasting("1", 4, at_least_seconds=2 * 3600)
    made = plan(Snapshot([node], [lease], at=NOW, held=[]))
    assert made.placements == []
    assert "device 0 left out: reserved from 2026-01-01 01:00 UTC" in made.blockers[lease.id][0]
    assert made.latest[lease.id] == NOW + 3 * HOUR
    assert made.blockers[lease.id][-1] == "it would start now with --for 1h"


@pytest.mark.parametrize(("moment", "starts"), [(NOW, False), (NOW + HOUR, True), (NOW + 3 * HOUR, False)])
def test_a_lease_under_a_reservation_starts_in_its_time_and_ends_with_it(
    moment: datetime, starts: bool
) -> None:
    node = booked(PLAIN, NOW + HOUR, 0, cpus_millis=500)
    mine = replace(lasting("1", 4), reservation_id=node.reserved[0].id, request=Request(GpuAsk(1), 500, 0))
    others = [lasting("2", 4, "big"), lasting("1", 4, "other")]
    made = plan(Snapshot([node], [*others, mine], at=moment, held=[]))
    placed = {one.lease.name: one for one in made.placements}
    assert ("l" in placed) is starts
    if starts:
        assert placed["l"].grants[0].device.index == 0
        assert placed["l"].ends_before == NOW + 3 * HOUR
    elif moment == NOW:
        assert made.expected[mine.id] == NOW + HOUR
        assert "its reservation talk begins at 2026-01-01 01:00 UTC" in made.blockers[mine.id][0]


def test_a_lease_cannot_have_more_under_its_reservation_than_was_booked() -> None:
    node = booked(PLAIN, NOW, 0, cpus_millis=500)
    mine = replace(lasting("1", 1), reservation_id=node.reserved[0].id, request=Request(GpuAsk(1), 600, 0))
    made = plan(Snapshot([node], [mine], at=NOW))
    assert made.blockers[mine.id][0].startswith("n: its reservation talk has 0.5 CPUs")


def test_what_one_lease_takes_under_a_reservation_is_kept_from_nobody_twice() -> None:
    node = booked(replace(PLAIN, cpus_free_millis=1000), NOW, 0, 1, cpus_millis=800)
    asked = Request(parse_gpu("1"), 400, 0)
    both = [
        replace(lasting("1", 1, name), reservation_id=node.reserved[0].id, request=asked)
        for name in ("a", "b")
    ]
    cpu_only = replace(lasting("0", 1, "c"), request=Request(parse_gpu("0"), 200, 0))
    made = plan(Snapshot([node], [*both, cpu_only], at=NOW))
    assert Counter[UUID](one.lease.id for one in made.placements) == Counter(
        [both[0].id, both[1].id, cpu_only.id]
    )


def test_who_booked_a_device_that_somebody_has_not_left_is_told_when_it_will_be_free() -> None:
    node = booked(replace(PLAIN, devices=[device(0, used=WHOLE), device(1)]), NOW, 0)
    late = Held(node.id, 0, 0, [(node.devices[0].id, WHOLE, 40 * GIB)], NOW + HOUR)
    mine = replace(lasting("1", 1), reservation_id=node.reserved[0].id, request=Request(GpuAsk(1), 0, 0))
    made = plan(Snapshot([node], [mine], at=NOW, held=[late]))
    assert made.latest == {mine.id: NOW + HOUR}
    for_ever = replace(late, until=NOW + 9 * HOUR)
    assert plan(Snapshot([node], [mine], at=NOW, held=[for_ever])).latest == {mine.id: None}
