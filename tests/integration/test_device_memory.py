"""Shared devices: what each lease uses of one, and what happens to who takes more than their part."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.model import AllocationSample, Event, Lease
from leasing.schema.lease import LeaseOut
from leasing.service import views
from leasing.settings.device_memory import DeviceMemorySettings
from monitoring import collector
from scheduler.reconcile import memory
from tests.integration.test_metrics import parsed, value
from tests.integration.test_report import GIB, A, Sampled, gpu, used
from tests.support.cluster import Cluster

SETTINGS = DeviceMemorySettings(warn_seconds=15, stop_seconds=60)
PART = 20 * GIB


@pytest.fixture
def node(database_url: str) -> Iterator[Sampled]:
    with Cluster.opened(database_url) as made:
        with made.sessions() as session:
            sampled = Sampled(made, now(session))
        sampled.report(gpu(A))
        yield sampled


def process(container: str | None, gigabytes: float | None, pid: int = 1) -> dict[str, Any]:
    taken = None if gigabytes is None else int(gigabytes * GIB)
    return {"pid": pid, "container_id": container, "memory_bytes": taken}


def samples(node: Sampled) -> list[AllocationSample]:
    with node.cluster.sessions() as session:
        return list(session.execute(sa.select(AllocationSample)).scalars())


def report(node: Sampled, device: dict[str, Any], **facts: Any) -> None:
    """One that comes just now, by the database's clock."""
    with node.cluster.sessions() as session:
        node.moment = now(session)
    node.report(device, seconds=0, **facts)


def seen(node: Sampled, lease: Lease) -> LeaseOut:
    with node.cluster.sessions() as session:
        row = session.get_one(Lease, lease.id)
        return views.lease_out(session, row, principal=node.cluster.ada, now=now(session), endpoints=str)


def aged(node: Sampled, seconds: float) -> None:
    """Time passes, during which the sampler goes on seeing the same."""
    with node.cluster.sessions.begin() as session:
        session.execute(
            sa.update(AllocationSample).values(
                at=now(session),
                over_since=AllocationSample.over_since - timedelta(seconds=seconds),
                warned_at=AllocationSample.warned_at - timedelta(seconds=seconds),
            )
        )


def warnings(node: Sampled, lease_id: UUID) -> list[str]:
    with node.cluster.sessions() as session:
        found = session.execute(
            sa.select(Event.message).where(Event.kind == "lease.memory_warning", Event.lease_id == lease_id)
        )
        return list(found.scalars())


def watch(node: Sampled) -> None:
    memory.run_once(node.cluster.sessions, SETTINGS)


def test_each_lease_is_told_by_its_own_processes(node: Sampled) -> None:
    """Two halves of one device; one has a process of `lease exec` beside its own."""
    one, other = node.cluster.run(gpu="0.5", name="one"), node.cluster.run(gpu="0.5", name="other")
    mine, theirs = node.container(one), node.container(other)
    processes = [process(mine, 5, 1), process(mine, 2.5, 2), process(theirs, 18, 3)]
    containers = [used(mine, 1), used(theirs, 1)]
    report(node, gpu(A, processes=processes, memory_used_bytes=26 * GIB), containers=containers)
    assert node.sample(one).gpu_memory_used_bytes == int(7.5 * GIB)
    assert node.sample(other).gpu_memory_used_bytes == 18 * GIB
    assert [device.memory_used_bytes for device in seen(node, one).devices] == [int(7.5 * GIB)]
    with node.cluster.sessions() as session:
        series, _ = parsed(collector.render(session))
    assert value(series, "leasing_lease_gpu_memory_used_bytes", lease_id=str(other.id)) == 18 * GIB


def test_of_a_whole_device_all_that_is_in_use_is_its_holder_s(node: Sampled) -> None:
    lease = node.cluster.run(gpu="1")
    container = node.container(lease)
    report(node, gpu(A, memory_used_bytes=9 * GIB), containers=[used(container, 1)])
    assert node.sample(lease).gpu_memory_used_bytes == 9 * GIB
    assert samples(node) == []


@pytest.mark.parametrize("hidden", ["memory", "processes"])
def test_what_cannot_be_measured_is_no_verdict(node: Sampled, hidden: str) -> None:
    lease = node.cluster.run(gpu="0.5")
    container = node.container(lease)
    found = None if hidden == "processes" else [process(container, 30), process(container, None, 2)]
    report(node, gpu(A, processes=found, memory_used_bytes=30 * GIB), containers=[used(container, 1)])
    assert samples(node) == []
    assert node.sample(lease).gpu_memory_used_bytes is None


def test_who_is_over_is_warned_then_stopped_with_the_way_out(node: Sampled) -> None:
    lease = node.cluster.run(gpu="0.5", name="greedy")
    over = gpu(A, processes=[process(node.container(lease), 30)])
    report(node, over)
    watch(node)
    aged(node, 14)
    watch(node)
    assert warnings(node, lease.id) == []
    assert seen(node, lease).warning is None
    aged(node, 2)
    watch(node)
    watch(node)
    said = "uses 30G of GPU 0, and its part is 20G; it is stopped in 1m unless it uses less."
    assert warnings(node, lease.id) == [f"greedy {said} To have more, lease it with --gpu 30GB."]
    warning = seen(node, lease).warning
    assert warning is not None
    assert "--gpu 30GB" in warning
    aged(node, 59)
    watch(node)
    assert node.cluster.lease(lease.id).state == "running"
    aged(node, 2)
    watch(node)
    stopped = node.cluster.lease(lease.id)
    assert (stopped.state, stopped.reason) == ("stopping", "failed")
    assert "it uses 30G of GPU 0, and its part is 20G" in stopped.message
    assert "--gpu 30GB" in stopped.message


def test_who_uses_less_again_is_warned_anew_the_next_time(node: Sampled) -> None:
    lease = node.cluster.run(gpu="0.5")
    container = node.container(lease)
    report(node, gpu(A, processes=[process(container, 30)]))
    aged(node, 16)
    watch(node)
    report(node, gpu(A, processes=[process(container, 20)]))
    (sample,) = samples(node)
    assert (sample.over_since, sample.warned_at) == (None, None)
    assert seen(node, lease).warning is None
    report(node, gpu(A, processes=[process(container, 30)]))
    aged(node, 61)
    watch(node)
    assert node.cluster.lease(lease.id).state == "running"
    assert len(warnings(node, lease.id)) == 2


def test_nobody_is_stopped_on_what_is_no_longer_known(node: Sampled) -> None:
    lease = node.cluster.run(gpu="0.5")
    over = gpu(A, processes=[process(node.container(lease), 30)])
    report(node, over)
    aged(node, 16)
    watch(node)
    aged(node, 120)
    old(node, timedelta(seconds=31))
    watch(node)
    assert node.cluster.lease(lease.id).state == "running"
    report(node, over)
    (sample,) = samples(node)
    assert (sample.over_since, sample.warned_at) == (node.moment, None), "its time over begins anew"


@pytest.mark.parametrize(
    ("part", "allowed"), [(PART, PART + GIB), (GIB, GIB + 256 * 2**20)], ids=["5 %", "256M"]
)
def test_a_little_more_than_the_part_is_no_harm(part: int, allowed: int) -> None:
    assert DeviceMemorySettings().limit(part) == allowed


def old(node: Sampled, age: timedelta) -> None:
    with node.cluster.sessions.begin() as session:
        moment: datetime = now(session)
        session.execute(sa.update(AllocationSample).values(at=moment - age))
