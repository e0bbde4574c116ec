"""What nodes report: capacity, devices and their faults, foreign use, samples and the signals that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from leasing.database import now
from leasing.model import (
    Device,
    DeviceUsage,
    Event,
    Lease,
    Node,
    NodeUsage,
    Run,
    RunSample,
    SignalKind,
    Traffic,
)
from leasing.reading import Reading
from leasing.schema.report import NodeReport, ReportAccepted
from leasing.service import cluster as service
from leasing.service import report, signals
from leasing.service.report import RESERVED_MEMORY
from tests.support.cluster import Cluster

GIB = 2**30
A, B = "GPU-a", "GPU-b"


def gpu(uuid: str, **facts: Any) -> dict[str, Any]:
    """One device of a report, healthy and quiet unless told otherwise."""
    index = ord(uuid[4]) - ord("a")
    usual = {"model": "A100", "memory_bytes": 40 * GIB, "health": "ok", "processes": [], "index": index}
    return usual | {"uuid": uuid, "utilization_ratio": 0.0, "memory_used_bytes": 0} | facts


@dataclass
class Sampled:
    """A cluster whose one node reports when a test says so, two seconds after the last time."""

    cluster: Cluster
    moment: datetime
    sequence: int = 0
    answer: ReportAccepted | None = None
    facts: dict[str, Any] = field(
        default_factory=lambda: {"boot_id": "first", "hostname": "one", "cpus": 64, "memory_bytes": 256 * GIB}
    )

    def report(self, *devices: dict[str, Any], seconds: float = 2, **facts: Any) -> list[str]:
        """Take one report in; the containers that the answer names."""
        self.moment += timedelta(seconds=seconds)
        self.sequence += 1
        now = {"sequence": self.sequence, "sampled_at": self.moment, "devices": list(devices)}
        whole = self.facts | now | facts
        with self.cluster.sessions.begin() as session:
            node = session.execute(sa.select(Node)).scalar_one()
            self.answer = report.ingest(session, node, NodeReport.model_validate(whole), now=self.moment)
        return self.answer.known_containers

    def soon(self) -> bool:
        """Whether the last answer asked for the next report at once."""
        return self.answer is not None and self.answer.soon

    def events(self, prefix: str = "device.") -> list[str]:
        with self.cluster.sessions() as session:
            kinds = session.execute(
                sa.select(Event.kind).where(Event.kind.startswith(prefix)).order_by(Event.id)
            )
            return list(kinds.scalars())

    def device(self, uuid: str = A) -> Device:
        with self.cluster.sessions() as session:
            return session.execute(sa.select(Device).where(Device.uuid == uuid)).scalar_one()

    def shares(self) -> dict[str, tuple[int, int]]:
        """What there is and what is used of each device."""
        with self.cluster.sessions() as session:
            rows = session.execute(
                sa.select(Device.uuid, DeviceUsage.share, DeviceUsage.share_used).join(DeviceUsage)
            )
            return {uuid: (share, used) for uuid, share, used in rows}

    def usage(self) -> NodeUsage:
        with self.cluster.sessions() as session:
            return session.execute(sa.select(NodeUsage)).scalar_one()

    def state(self, uuid: str = A) -> str:
        with self.cluster.sessions() as session:
            page = service.devices(session, now=self.moment)
            return {device.uuid: device.state for device in page.items}[uuid]

    def container(self, lease: Lease) -> str:
        with self.cluster.sessions() as session:
            found = session.execute(sa.select(Run.container_id).where(Run.lease_id == lease.id)).scalar_one()
            assert found is not None
            return found

    def held(self, lease: Lease) -> str:
        """The device a lease holds."""
        with self.cluster.sessions() as session:
            page = service.devices(session, now=self.moment)
            return next(device.uuid for device in page.items if device.lease == lease.name)

    def sample(self, lease: Lease) -> RunSample:
        with self.cluster.sessions() as session:
            return session.execute(
                sa.select(RunSample).join(Run, Run.id == RunSample.run_id).where(Run.lease_id == lease.id)
            ).scalar_one()

    def signals(self, lease_id: UUID) -> dict[str, Reading]:
        with self.cluster.sessions() as session:
            return signals.of(session, [lease_id]).get(lease_id, {})


@pytest.fixture
def node(database_url: str) -> Iterator[Sampled]:
    with Cluster.opened(database_url) as made:
        with made.sessions() as session:
            moment = now(session)
        yield Sampled(made, moment)


def used(container_id: str, cpu: float, network: int | None = 0) -> dict[str, Any]:
    """One container of a report."""
    return {
        "container_id": container_id,
        "cpu_seconds_total": cpu,
        "memory_working_set_bytes": 5 * 2**20,
        "network_rx_bytes_total": network,
        "network_tx_bytes_total": network,
    }


def test_a_node_has_what_it_reports_less_the_machines_own(node: Sampled) -> None:
    node.report(cpus=16, memory_bytes=64 * GIB)
    usage = node.usage()
    assert (usage.cpus_millis, usage.memory_bytes) == (16_000, 64 * GIB - RESERVED_MEMORY)


def test_a_node_that_shrinks_keeps_what_is_placed_on_it(node: Sampled) -> None:
    node.cluster.run(cpus="8", memory="4G")
    node.report(cpus=2, memory_bytes=GIB)
    usage = node.usage()
    assert usage.cpus_millis == usage.cpus_used_millis == 8_000
    assert usage.memory_bytes == usage.memory_used_bytes


def test_reports_that_overtake_each_other_are_passed_over(node: Sampled) -> None:
    node.report(cpus=16)
    node.sequence -= 1
    node.report(cpus=4)
    assert node.usage().cpus_millis == 16_000
    node.report(cpus=4, sequence=0, boot_id="second")
    assert node.usage().cpus_millis == 4_000


def test_devices_come_go_and_come_back(node: Sampled) -> None:
    node.report(gpu(A), gpu(B))
    assert node.shares() == {A: (1000, 0), B: (1000, 0)}
    node.report(gpu(A))
    assert node.device(B).health == "retired"
    node.report(gpu(A), gpu(B))
    assert node.device(B).health == "ok"
    assert node.events() == ["device.appeared", "device.appeared", "device.retired", "device.recovered"]


def test_a_library_that_does_not_answer_says_nothing_about_devices(node: Sampled) -> None:
    node.report(gpu(A))
    node.report(devices=None)
    assert node.device().health == "ok"
    node.report(devices=None, seconds=60)
    assert node.state() == "unknown"


def test_a_lost_device_is_out_until_it_is_well_again(node: Sampled) -> None:
    node.report(gpu(A))
    for _ in range(3):
        node.report(
            gpu(A, health="lost", health_reason="fell off the bus", utilization_ratio=None, processes=None)
        )
    assert node.state() == "out"
    node.report(gpu(A))
    assert node.state() == "free"
    assert node.events() == ["device.appeared", "device.lost", "device.recovered"]


def test_the_parent_of_instances_is_not_leased_itself(node: Sampled) -> None:
    node.report(gpu(A), gpu(B))
    lease = node.cluster.run(gpu="1")
    held = node.held(lease)
    free = B if held == A else A
    node.report(gpu(held, mig_enabled=True), gpu(free, mig_enabled=True), gpu("MIG-c", parent_uuid=free))
    assert node.shares() == {held: (1000, 1000), free: (0, 0), "MIG-c": (1000, 0)}
    node.cluster.release(lease.id)
    node.cluster.work()
    assert node.state(held) == "out", "a lease that ended leaves no way to the whole device"
    node.report(gpu(held, mig_enabled=True), gpu(free), gpu("MIG-c", parent_uuid=free))
    assert node.shares() == {held: (0, 0), free: (1000, 0), "MIG-c": (1000, 0)}


def test_a_foreign_process_is_told_once_and_its_end_too(node: Sampled) -> None:
    stranger = [{"pid": 4711, "name": "python3"}]
    node.report(gpu(A))
    node.report(gpu(A, processes=stranger))
    since = node.device().foreign_since
    node.report(gpu(A, processes=stranger))
    assert node.state() == "foreign"
    assert node.device().foreign_since == since == node.moment - timedelta(seconds=2)
    assert node.device().foreign_processes[0]["pid"] == 4711
    node.report(gpu(A, processes=None))
    assert node.state() == "foreign", "what cannot be seen has not gone"
    node.report(gpu(A))
    assert node.state() == "free"
    assert node.events() == ["device.appeared", "device.foreign", "device.foreign_ended"]


def test_a_lease_is_foreign_on_a_device_that_it_does_not_hold(node: Sampled) -> None:
    node.report(gpu(A), gpu(B))
    lease = node.cluster.run(gpu="1")
    held = node.held(lease)
    other = B if held == A else A
    own = [{"pid": 7, "container_id": node.container(lease)}]
    node.report(gpu(held, processes=own), gpu(other, processes=own))
    assert (node.state(held), node.state(other)) == ("leased", "foreign")


def test_a_container_that_is_being_started_is_not_foreign_on_its_device(node: Sampled) -> None:
    node.report(gpu(A))
    node.cluster.ask(gpu="1")
    node.cluster.plan()
    node.report(gpu(A, processes=[{"pid": 7, "container_id": "c" * 64}]))
    assert node.device().foreign_since is None
    node.report(gpu(A, processes=[{"pid": 8}]))
    assert node.device().foreign_since is not None


def test_rates_come_from_counters_and_a_counter_that_begins_anew_has_none(node: Sampled) -> None:
    lease = node.cluster.run()
    container = node.container(lease)
    assert node.report(containers=[used(container, 10)]) == [container]
    assert node.sample(lease).cpu_cores is None
    node.report(containers=[used(container, 11)])
    assert node.sample(lease).cpu_cores == pytest.approx(0.5)
    node.report(containers=[used(container, 0.2)])
    assert node.sample(lease).cpu_cores is None
    assert node.sample(lease).memory_working_set_bytes == 5 * 2**20


def test_what_cannot_be_measured_is_no_signal(node: Sampled) -> None:
    node.report(gpu(A), gpu(B))
    lease = node.cluster.run(gpu="2")
    container = node.container(lease)
    node.report(gpu(A), gpu(B, utilization_ratio=None), containers=[used(container, 1, network=None)])
    node.report(gpu(A), gpu(B, utilization_ratio=None), containers=[used(container, 1, network=None)])
    assert set(node.signals(lease.id)) == {SignalKind.CPU, SignalKind.GPU_MEMORY}
    assert node.sample(lease).gpu_utilization_ratio is None
    node.report(
        gpu(A, memory_used_bytes=GIB),
        gpu(B, utilization_ratio=0.75, memory_used_bytes=GIB),
        containers=[used(container, 1)],
    )
    assert node.sample(lease).gpu_utilization_ratio == pytest.approx(0.75)
    assert node.sample(lease).gpu_memory_used_bytes == 2 * GIB
    assert node.signals(lease.id)[SignalKind.GPU].active_at == node.moment


def test_busy_seconds_of_all_devices_add_up_and_a_gap_counts_nothing(node: Sampled) -> None:
    node.report(gpu(A), gpu(B))
    lease = node.cluster.run(gpu="2")
    container = node.container(lease)
    busy = (gpu(A, utilization_ratio=1.0), gpu(B, utilization_ratio=0.5))
    node.report(
        gpu(A, utilization_ratio=None), gpu(B, utilization_ratio=None), containers=[used(container, 1)]
    )
    assert node.sample(lease).gpu_used_seconds_total is None, "not measured is not 0"
    node.report(*busy, containers=[used(container, 1)])
    node.report(*busy, containers=[used(container, 1)])
    assert node.sample(lease).gpu_used_seconds_total == pytest.approx(6.0)
    node.moment += timedelta(minutes=5)
    node.report(*busy, containers=[used(container, 1)])
    assert node.sample(lease).gpu_used_seconds_total == pytest.approx(6.0)


def test_a_signal_is_known_only_since_its_last_gap(node: Sampled) -> None:
    lease = node.cluster.run()
    container = node.container(lease)
    node.report(containers=[used(container, 0)])
    node.report(containers=[used(container, 2)])
    first = node.moment
    node.report(containers=[used(container, 2)], seconds=30)
    assert node.signals(lease.id)[SignalKind.CPU] == Reading(
        known_since=first, seen_at=node.moment, active_at=first, value=0.0
    )
    node.report(containers=[used(container, 2)], seconds=31)
    assert node.signals(lease.id)[SignalKind.CPU] == Reading(
        known_since=node.moment, seen_at=node.moment, active_at=first, value=0.0
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"hostname": "one\x00"},
        {"cpus": float("nan")},
        {"cpus": -1},
        {"memory_bytes": 2**70},
        {"cpu_utilization_ratio": float("inf")},
        {"devices": [gpu(A), gpu(A)]},
        {"devices": [gpu("GPU-a'; --")]},
        {"containers": [used("../../etc", 1)]},
        {"lease": "mine"},
    ],
    ids=str,
)
def test_a_malformed_report_is_refused_whole(node: Sampled, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        node.report(**wrong)
    assert node.usage().cpus_millis == 64_000


def test_what_an_open_page_asks_for_by_itself_is_no_network_activity(node: Sampled) -> None:
    lease = node.cluster.run(port=80)
    container = node.container(lease)
    carried = 0
    for second in range(0, 180, 2):
        if second % 10 == 0:  # 100 kB every ten seconds, of which the gateway tells a bit later
            carried += 100_000
        if second % 10 == 4:
            with node.cluster.sessions.begin() as session:
                session.merge(Traffic(lease_id=lease.id, own_bytes_total=2 * carried))  # both ways
        node.report(containers=[used(container, 0, network=carried)])
    quiet = node.signals(lease.id)[SignalKind.NETWORK]
    assert quiet.active_at is None or quiet.active_at < node.moment - timedelta(seconds=60)
    node.report(containers=[used(container, 0, network=carried + 1_000_000)])
    assert node.signals(lease.id)[SignalKind.NETWORK].active_at == node.moment


def test_a_shared_device_counts_by_the_processes_of_each_lease(node: Sampled) -> None:
    node.report(gpu(A, memory_bytes=40 * GIB))
    one, other = (node.cluster.run(gpu="0.5") for _ in range(2))
    busy, lazy = (node.container(lease) for lease in (one, other))

    def seen(**facts: Any) -> tuple[float | None, float | None]:
        processes = [
            {"pid": 1, "container_id": busy, "memory_bytes": GIB} | facts,
            {"pid": 2, "container_id": busy, "memory_bytes": GIB} | facts,
        ]
        node.report(
            gpu(A, utilization_ratio=0.9, processes=processes),
            containers=[used(busy, 1), used(lazy, 1)],
        )
        return node.sample(one).gpu_utilization_ratio, node.sample(other).gpu_utilization_ratio

    assert seen(utilization_ratio=0.25) == (0.5, 0.0)
    assert seen(utilization_ratio=0.75) == (1.0, 0.0)
    assert seen() == (None, 0.0), "the driver does not tell: unknown, and never the whole device's figure"


def test_what_a_machine_never_counts_does_not_apply_and_what_is_missing_later_is_unknown(
    node: Sampled,
) -> None:
    mute, told = (node.cluster.run() for _ in range(2))
    first, second = node.container(mute), node.container(told)
    for disk in (10**6, 2 * 10**6, None):
        counts = used(second, 1) | {"disk_bytes_total": disk}
        node.report(containers=[used(first, 1), counts])
    with node.cluster.sessions() as session:
        without = dict(session.execute(sa.select(Run.lease_id, Run.inapplicable)).all())
    assert list(without[mute.id]) == ["disk"]
    assert without[told.id] == {}
    assert node.signals(told.id)[SignalKind.DISK].seen_at == node.moment - timedelta(seconds=2)
