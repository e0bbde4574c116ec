"""The platform's state as Prometheus metrics, computed from rows at each scrape.

Grammar: base units, `_seconds`, `_bytes`, `_ratio` (0 to 1), counters end in `_total`, `_info` rows join. No user text
in hot labels: names of leases and owners stand in `leasing_lease_info` only. What cannot be measured has no series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.orm import Session

from leasing import __version__
from leasing.database import now
from leasing.model import Allocation, Device, Event, Lease, Run, RunSample, Traffic, User
from leasing.service import cluster
from leasing.states import EndReason, LeaseState, Verdict

WAIT_BUCKETS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
START_BUCKETS = (0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
DEVICE_STATES = ("free", "leased", "foreign", "out", "unknown")
RECLAIMS = (EndReason.EXPIRED, EndReason.IDLE, EndReason.PREEMPTED, EndReason.DRAINED)


def render(session: Session) -> bytes:
    """One scrape's text. No engine and no NVML is asked."""
    registry = CollectorRegistry()
    registry.register(Rows(session))
    return generate_latest(registry)


class Rows(Collector):
    """Every family, each from one statement."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        build = GaugeMetricFamily("leasing_build_info", "This version.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield from self._leases()
        yield from self._devices()
        yield from self._running()
        yield from self._endpoints()
        yield from self._history()

    def _leases(self) -> Iterable[Metric]:
        counts: dict[str, int] = dict(
            self._session.execute(sa.select(Lease.state, sa.func.count()).group_by(Lease.state)).all()
        )
        family = GaugeMetricFamily("leasing_leases", "Leases by state.", labels=["state"])
        for state in LeaseState:
            family.add_metric([state], counts.get(state, 0))
        yield family
        depth = GaugeMetricFamily("leasing_queue_depth", "Leases that wait for room.")
        depth.add_metric([], counts.get(LeaseState.QUEUED, 0))
        yield depth

    def _devices(self) -> Iterable[Metric]:
        state = GaugeMetricFamily(
            "leasing_gpu_state", "1 for the state a device is in.", labels=["uuid", "node", "state"]
        )
        info = GaugeMetricFamily("leasing_gpu_info", "Devices by model.", labels=["uuid", "node", "model"])
        for device in cluster.devices(self._session, now=now(self._session)).items:
            for one in DEVICE_STATES:
                state.add_metric([device.uuid, device.node, one], float(device.state == one))
            info.add_metric([device.uuid, device.node, device.model], 1)
        yield state
        yield info
        placed = GaugeMetricFamily(
            "leasing_node_cpus_leased", "Processors placed on a node.", labels=["node"]
        )
        memory = GaugeMetricFamily(
            "leasing_node_memory_leased_bytes", "Memory placed on a node.", labels=["node"]
        )
        health = GaugeMetricFamily("leasing_node_ready", "1 if its engine answers.", labels=["node"])
        heard = GaugeMetricFamily(
            "leasing_node_report_timestamp_seconds", "When its sampler last reported.", labels=["node"]
        )
        for node in cluster.nodes(self._session, now=now(self._session)).items:
            placed.add_metric([node.name], node.cpus_used)
            memory.add_metric([node.name], node.memory_used_bytes)
            health.add_metric([node.name], float(node.health == "ready"))
            if node.sampler_seen_at is not None:
                heard.add_metric([node.name], node.sampler_seen_at.timestamp())
        yield from (placed, memory, health, heard)

    def _running(self) -> Iterable[Metric]:
        rows = self._session.execute(
            sa.select(Lease, User.name, RunSample)
            .join(User, User.id == Lease.owner_id)
            .outerjoin(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
            .outerjoin(RunSample, RunSample.run_id == Run.id)
            .where(Lease.state != LeaseState.ENDED)
        )
        info = GaugeMetricFamily(
            "leasing_lease_info", "Live leases.", labels=["lease_id", "name", "owner", "project", "state"]
        )
        gauges = {
            name: GaugeMetricFamily(name, words, labels=["lease_id"])
            for name, words in (
                ("leasing_lease_gpu_utilization_ratio", "Of its busiest device, 0 to 1."),
                ("leasing_lease_gpu_memory_used_bytes", "Of all its devices."),
                ("leasing_lease_memory_working_set_bytes", "Memory in use."),
                ("leasing_lease_cpu_utilization_cores", "Processors in use."),
                ("leasing_lease_idle_seconds", "How long every signal has been quiet."),
                ("leasing_lease_expires_timestamp_seconds", "When its time is over."),
            )
        }
        cpu = CounterMetricFamily("leasing_lease_cpu_seconds", "CPU time used.", labels=["lease_id"])
        moment = now(self._session)
        for lease, owner, sample in rows:
            key = [str(lease.id)]
            info.add_metric([str(lease.id), lease.name, owner, lease.project, lease.state], 1)
            idle = lease.idle_verdict == Verdict.IDLE and lease.idle_since is not None
            values = {
                "leasing_lease_expires_timestamp_seconds": lease.ends_at.timestamp()
                if lease.ends_at
                else None,
                "leasing_lease_idle_seconds": (moment - lease.idle_since).total_seconds()
                if idle and lease.idle_since
                else 0.0
                if lease.idle_verdict == Verdict.ACTIVE
                else None,
            }
            if sample is not None:
                values["leasing_lease_gpu_utilization_ratio"] = sample.gpu_utilization_ratio
                values["leasing_lease_gpu_memory_used_bytes"] = sample.gpu_memory_used_bytes
                values["leasing_lease_memory_working_set_bytes"] = sample.memory_working_set_bytes
                values["leasing_lease_cpu_utilization_cores"] = sample.cpu_cores
                cpu.add_metric(key, sample.cpu_seconds_total)
            for name, value in values.items():
                if value is not None:
                    gauges[name].add_metric(key, value)
        yield info
        yield cpu
        yield from gauges.values()
        yield from self._held()

    def _held(self) -> Iterable[Metric]:
        """The join row of device and lease, and the device-seconds each lease has held."""
        joined = GaugeMetricFamily(
            "leasing_lease_gpu_info", "Which lease holds a device.", labels=["lease_id", "uuid"]
        )
        for lease_id, uuid in self._session.execute(
            sa.select(Run.lease_id, Device.uuid)
            .join(Allocation, Allocation.run_id == Run.id)
            .join(Device, Device.id == Allocation.device_id)
            .where(Allocation.released_at.is_(None))
        ):
            joined.add_metric([str(lease_id), uuid], 1)
        yield joined
        held = CounterMetricFamily(
            "leasing_lease_gpu_seconds", "Device-seconds of live leases.", labels=["lease_id", "kind"]
        )
        seconds = sa.func.extract(
            "epoch", sa.func.coalesce(Allocation.released_at, sa.func.now()) - Allocation.created_at
        )
        for lease_id, total in self._session.execute(
            sa.select(Run.lease_id, sa.func.sum(seconds * Allocation.share / 1000.0))
            .join(Allocation, Allocation.run_id == Run.id)
            .join(Lease, Lease.id == Run.lease_id)
            .where(Lease.state != LeaseState.ENDED)
            .group_by(Run.lease_id)
        ):
            held.add_metric([str(lease_id), "allocated"], float(total))
        yield held

    def _endpoints(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "leasing_gateway_requests", "Calls of an endpoint.", labels=["lease_id"]
        )
        moved = CounterMetricFamily(
            "leasing_gateway_bytes", "Bytes through an endpoint.", labels=["lease_id", "direction"]
        )
        rows = self._session.execute(
            sa.select(Traffic)
            .join(Lease, Lease.id == Traffic.lease_id)
            .where(Lease.state != LeaseState.ENDED)
        ).scalars()
        for traffic in rows:
            requests.add_metric([str(traffic.lease_id)], traffic.requests_total)
            moved.add_metric([str(traffic.lease_id), "in"], traffic.bytes_in_total)
            moved.add_metric([str(traffic.lease_id), "out"], traffic.bytes_out_total)
        yield requests
        yield moved

    def _history(self) -> Iterable[Metric]:
        transitions = CounterMetricFamily(
            "leasing_lease_transitions", "Changes of state.", labels=["from", "to", "reason"]
        )
        reclaims: Counter[str] = Counter()
        for source, target, reason, count in self._session.execute(
            sa.select(Event.from_state, Event.to_state, Event.reason, sa.func.count())
            .where(Event.to_state.is_not(None))
            .group_by(Event.from_state, Event.to_state, Event.reason)
        ):
            transitions.add_metric([source or "", target or "", reason or ""], count)
            if target == LeaseState.ENDED and reason in RECLAIMS:
                reclaims[str(reason)] += count
        yield transitions
        reclaimed = CounterMetricFamily("leasing_reclaims", "Leases taken back.", labels=["reason"])
        for one in RECLAIMS:
            reclaimed.add_metric([one], reclaims[one])
        yield reclaimed
        conflicts = CounterMetricFamily("leasing_allocation_conflicts", "Placements the database refused.")
        conflicts.add_metric(
            [],
            self._session.execute(
                sa.select(sa.func.count()).select_from(Event).where(Event.kind == "lease.conflict")
            ).scalar_one(),
        )
        yield conflicts
        yield self._waits()
        yield self._starts()

    def _waits(self) -> Metric:
        waited = sa.func.extract("epoch", Run.placed_at - Lease.created_at)
        family = HistogramMetricFamily("leasing_queue_wait_seconds", "From the request to its place.")
        buckets, total = self._histogram(waited, Run.generation == 1, WAIT_BUCKETS)
        family.add_metric([], buckets, total)
        return family

    def _starts(self) -> Metric:
        took = sa.func.extract("epoch", Run.started_at - Run.placed_at)
        family = HistogramMetricFamily(
            "leasing_lease_start_seconds", "From a phase's begin to its end.", labels=["phase"]
        )
        buckets, total = self._histogram(took, Run.started_at.is_not(None), START_BUCKETS)
        family.add_metric(["start"], buckets, total)
        return family

    def _histogram(
        self, value: sa.ColumnElement[Any], where: sa.ColumnElement[bool], bounds: tuple[float, ...]
    ) -> tuple[list[tuple[str, float]], float]:
        counts = [sa.func.count().filter(value <= bound) for bound in bounds]
        row = self._session.execute(
            sa.select(*counts, sa.func.count(), sa.func.coalesce(sa.func.sum(value), 0))
            .select_from(Run)
            .join(Lease, Lease.id == Run.lease_id)
            .where(where)
        ).one()
        named = [*(str(float(bound)) for bound in bounds), "+Inf"]
        return list(zip(named, [float(one) for one in row[:-1]], strict=True)), float(row[-1])
