"""The platform's state as Prometheus metrics, computed from rows at each scrape; `monitoring.metrics` names them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from leasing import __version__
from leasing.database import now
from leasing.model import (
    Allocation,
    CallTime,
    Device,
    Event,
    Forecast,
    Lease,
    Node,
    Project,
    Reservation,
    Run,
    RunSample,
    Traffic,
    User,
    Warm,
    Workspace,
)
from leasing.reading import Signalled
from leasing.service import cluster, idle_views
from leasing.states import DeviceHealth, LeaseState, Verdict, WarmRole
from monitoring import device_time, metrics, notices

WAIT_BUCKETS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
START_BUCKETS = (0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
DEVICE_STATES = ("free", "leased", "foreign", "cleaning", "quarantined", "out", "unknown")
OF_A_LEASE = (
    metrics.LEASE_GPU_UTILIZATION,
    metrics.LEASE_GPU_MEMORY,
    metrics.LEASE_MEMORY,
    metrics.LEASE_CPU_CORES,
    metrics.LEASE_IDLE,
    metrics.LEASE_EXPIRES,
    metrics.LEASE_DEVICE_FAULT,
)
OF_A_RUN = sa.join(Run, Lease, Lease.id == Run.lease_id)


def render(session: Session) -> bytes:
    """One scrape's text. No engine and no NVML is asked; a database that does not answer is said, not raised."""
    try:
        return _text(Rows(session))
    except OperationalError:
        session.rollback()
        return _text(Silence())


def _text(collector: Collector) -> bytes:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)


def _process(*, database_up: bool) -> Iterable[Metric]:
    build = metrics.BUILD_INFO.new()
    build.add_metric([__version__], 1)
    up = metrics.DATABASE_UP.new()
    up.add_metric([], float(database_up))
    return build, up


class Silence(Collector):
    """What can be said without the database."""

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        return _process(database_up=False)


class Rows(Collector):
    """Every family, each from one statement."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        yield from self._leases()
        yield from self._devices()
        yield from self._nodes()
        yield from self._workspaces()
        yield from self._warm()
        yield from self._running()
        yield from self._endpoints()
        yield from self._history()
        yield from notices.collect(self._session)
        yield from _process(database_up=True)

    def _leases(self) -> Iterable[Metric]:
        counts: dict[str, int] = dict(
            self._session.execute(sa.select(Lease.state, sa.func.count()).group_by(Lease.state)).all()
        )
        family = metrics.LEASES.new()
        for state in LeaseState:
            family.add_metric([state], counts.get(state, 0))
        yield family
        depth = metrics.QUEUE_DEPTH.new()
        depth.add_metric([], counts.get(LeaseState.QUEUED, 0))
        yield depth
        late = metrics.RESERVATIONS_LATE.new()
        waiting = sa.select(sa.func.count()).where(Reservation.late_since.is_not(None))
        late.add_metric([], self._session.execute(waiting).scalar_one())
        yield late

    def _devices(self) -> Iterable[Metric]:
        state, info, healthy = metrics.GPU_STATE.new(), metrics.GPU_INFO.new(), metrics.GPU_HEALTHY.new()
        parents = set()
        held = sa.exists().where(Allocation.device_id == Device.id, Allocation.released_at.is_(None))
        for uuid, node, health, parent in self._session.execute(
            sa.select(Device.uuid, Node.name, Device.health, Device.mig_enabled)
            .join(Node, Node.id == Device.node_id)
            .where(sa.or_(Device.health != DeviceHealth.RETIRED, held))
        ):
            healthy.add_metric([uuid, node], float(health == DeviceHealth.OK))
            if parent:
                parents.add(uuid)
        for device in cluster.devices(self._session, now=now(self._session)).items:
            info.add_metric([device.uuid, device.node, device.model], 1)
            if device.uuid in parents and device.state != "leased":
                continue  # it counts through its instances
            for one in DEVICE_STATES:
                state.add_metric([device.uuid, device.node, one], float(device.state == one))
        yield from (state, info, healthy)

    def _nodes(self) -> Iterable[Metric]:
        cpus, memory = metrics.NODE_CPUS_LEASED.new(), metrics.NODE_MEMORY_LEASED.new()
        ready, reported = metrics.NODE_READY.new(), metrics.NODE_REPORTED.new()
        disk = metrics.NODE_DISK_FREE.new()
        for node in cluster.nodes(self._session, now=now(self._session)).items:
            cpus.add_metric([node.name], node.cpus_used)
            memory.add_metric([node.name], node.memory_used_bytes)
            ready.add_metric([node.name], float(node.health == "ready"))
            if node.sampler_seen_at is not None:
                reported.add_metric([node.name], node.sampler_seen_at.timestamp())
        for name, engine in self._session.execute(sa.select(Node.name, Node.engine)):
            if engine.get("disk_free_bytes") is not None:
                disk.add_metric([name], engine["disk_free_bytes"])
        yield from (cpus, memory, ready, reported, disk)

    def _workspaces(self) -> Iterable[Metric]:
        info, size = metrics.WORKSPACE_INFO.new(), metrics.WORKSPACE_SIZE.new()
        quota = metrics.WORKSPACE_QUOTA.new()
        rows = self._session.execute(
            sa.select(Workspace, User.name, Project.name, Node.name)
            .join(User, User.id == Workspace.owner_id)
            .outerjoin(Project, Project.id == Workspace.project_id)
            .outerjoin(Node, Node.id == Workspace.node_id)
            .where(Workspace.deleted_at.is_(None))
        )
        for workspace, owner, project, node in rows:
            key = str(workspace.id)
            info.add_metric([key, workspace.name, owner, project or "", node or ""], 1)
            if workspace.size_bytes is not None:
                size.add_metric([key], workspace.size_bytes)
            if workspace.quota_bytes is not None:
                quota.add_metric([key, workspace.kind], workspace.quota_bytes)
        yield from (info, size, quota)

    def _warm(self) -> Iterable[Metric]:
        counted = self._session.execute(
            sa.select(Node.name, Warm.role, Warm.state, sa.func.count())
            .join(Node, Node.id == Warm.node_id)
            .group_by(Node.name, Warm.role, Warm.state)
        )
        warm = metrics.WARM.new()
        for node, role, state, count in counted:
            warm.add_metric([node, role, state], count)
        yield warm
        begun = dict(
            self._session.execute(
                sa.select(Run.ready, sa.func.count()).where(Run.started_at.is_not(None)).group_by(Run.ready)
            ).all()
        )
        starts = metrics.STARTS.new()
        for ready in (*WarmRole, None):
            starts.add_metric([ready or "none"], begun.get(ready, 0))
        yield starts

    def _running(self) -> Iterable[Metric]:
        moment = now(self._session)
        fresh = sa.and_(RunSample.run_id == Run.id, RunSample.at > moment - cluster.STALE)
        rows = self._session.execute(
            sa.select(Lease, User.name, Project.name, RunSample)
            .join(User, User.id == Lease.owner_id)
            .join(Project, Project.id == Lease.project_id)
            .outerjoin(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
            .outerjoin(RunSample, fresh)
            .where(Lease.state != LeaseState.ENDED)
        )
        info, cpu = metrics.LEASE_INFO.new(), metrics.LEASE_CPU_SECONDS.new()
        gauges = {family: family.new() for family in OF_A_LEASE}
        for lease, owner, project, sample in rows:
            key = [str(lease.id)]
            info.add_metric([str(lease.id), lease.name, owner, project, lease.state], 1)
            values: dict[metrics.Gauge, float | None] = {
                metrics.LEASE_EXPIRES: lease.ends_at.timestamp() if lease.ends_at else None,
                metrics.LEASE_DEVICE_FAULT: 1.0 if lease.device_fault else None,
                metrics.LEASE_IDLE: _idle_seconds(lease, moment),
            }
            if sample is not None:
                values[metrics.LEASE_GPU_UTILIZATION] = sample.gpu_utilization_ratio
                values[metrics.LEASE_GPU_MEMORY] = sample.gpu_memory_used_bytes
                values[metrics.LEASE_MEMORY] = sample.memory_working_set_bytes
                values[metrics.LEASE_CPU_CORES] = sample.cpu_cores
                cpu.add_metric(key, sample.cpu_seconds_total)
            for family, value in values.items():
                if value is not None:
                    gauges[family].add_metric(key, value)
        yield info
        yield cpu
        yield from gauges.values()
        yield self._signals(moment)
        yield from self._held()

    def _signals(self, moment: datetime) -> Metric:
        running = list(
            self._session.execute(sa.select(Lease).where(Lease.state == LeaseState.RUNNING)).scalars()
        )
        family = metrics.LEASE_SIGNAL.new()
        for (lease_id, kind), state in idle_views.states(self._session, running, now=moment).items():
            if state in (Signalled.ACTIVE, Signalled.QUIET):
                family.add_metric([str(lease_id), kind], float(state is Signalled.ACTIVE))
        return family

    def _held(self) -> Iterable[Metric]:
        """The join row of device and lease, and where devices' time went."""
        joined = metrics.LEASE_GPU_INFO.new()
        for lease_id, uuid in self._session.execute(
            sa.select(Run.lease_id, Device.uuid)
            .join(Allocation, Allocation.run_id == Run.id)
            .join(Device, Device.id == Allocation.device_id)
            .where(Allocation.released_at.is_(None))
        ):
            joined.add_metric([str(lease_id), uuid], 1)
        yield joined
        yield from device_time.collect(self._session)

    def _endpoints(self) -> Iterable[Metric]:
        requests, moved = metrics.REQUESTS.new(), metrics.GATEWAY_BYTES.new()
        hits, misses = metrics.CACHE_HITS.new(), metrics.CACHE_MISSES.new()
        rows = self._session.execute(
            sa.select(Traffic)
            .join(Lease, Lease.id == Traffic.lease_id)
            .where(Lease.state != LeaseState.ENDED)
        ).scalars()
        for traffic in rows:
            requests.add_metric([str(traffic.lease_id)], traffic.requests_total)
            moved.add_metric([str(traffic.lease_id), "in"], traffic.bytes_in_total)
            moved.add_metric([str(traffic.lease_id), "out"], traffic.bytes_out_total)
            if traffic.cache_hits_total + traffic.cache_misses_total:
                hits.add_metric([str(traffic.lease_id)], traffic.cache_hits_total)
                misses.add_metric([str(traffic.lease_id)], traffic.cache_misses_total)
        yield requests
        yield moved
        yield hits
        yield misses
        yield self._call_times()

    def _call_times(self) -> Metric:
        family = metrics.REQUEST_SECONDS.new()
        count, seconds, buckets = 0, 0.0, dict.fromkeys(CallTime.BOUNDS, 0)
        for row in self._session.execute(sa.select(CallTime).order_by(CallTime.upto)).scalars():
            count += row.calls_total
            seconds += row.seconds_total
            for bound in buckets:
                buckets[bound] += row.calls_total if row.upto <= bound else 0
        named = [(str(bound), float(calls)) for bound, calls in buckets.items()]
        family.add_metric([], [*named, ("+Inf", float(count))], seconds)
        return family

    def _history(self) -> Iterable[Metric]:
        transitions = metrics.TRANSITIONS.new()
        for source, target, reason, count in self._session.execute(
            sa.select(Event.from_state, Event.to_state, Event.reason, sa.func.count())
            .where(Event.to_state.is_not(None))
            .group_by(Event.from_state, Event.to_state, Event.reason)
        ):
            transitions.add_metric([source or "", target or "", reason or ""], count)
        yield transitions
        conflicts = metrics.CONFLICTS.new()
        conflicts.add_metric(
            [],
            self._session.execute(
                sa.select(sa.func.count()).select_from(Event).where(Event.kind == "lease.conflict")
            ).scalar_one(),
        )
        yield conflicts
        yield self._waits()
        yield self._starts()
        yield self._forecasts()

    def _waits(self) -> Metric:
        waited = sa.func.extract("epoch", Run.placed_at - Lease.created_at)
        family = metrics.QUEUE_WAIT.new()
        buckets, total = self._histogram(OF_A_RUN, waited, Run.generation == 1, WAIT_BUCKETS)
        family.add_metric([], buckets, total)
        return family

    def _starts(self) -> Metric:
        took = sa.func.extract("epoch", Run.started_at - Run.placed_at)
        family = metrics.START.new()
        buckets, total = self._histogram(OF_A_RUN, took, Run.started_at.is_not(None), START_BUCKETS)
        family.add_metric(["start"], buckets, total)
        return family

    def _forecasts(self) -> Metric:
        error = sa.func.abs(sa.func.extract("epoch", Forecast.placed_at - Forecast.expected_start))
        family = metrics.FORECAST_ERROR.new()
        table = sa.inspect(Forecast).local_table
        buckets, total = self._histogram(table, error, Forecast.placed_at.is_not(None), WAIT_BUCKETS)
        family.add_metric([], buckets, total)
        return family

    def _histogram(
        self,
        rows: sa.FromClause,
        value: sa.ColumnElement[Any],
        where: sa.ColumnElement[bool],
        bounds: tuple[float, ...],
    ) -> tuple[list[tuple[str, float]], float]:
        counts = [sa.func.count().filter(value <= bound) for bound in bounds]
        row = self._session.execute(
            sa.select(*counts, sa.func.count(), sa.func.coalesce(sa.func.sum(value), 0))
            .select_from(rows)
            .where(where)
        ).one()
        named = [*(str(float(bound)) for bound in bounds), "+Inf"]
        return list(zip(named, [float(one) for one in row[:-1]], strict=True)), float(row[-1])


def _idle_seconds(lease: Lease, moment: datetime) -> float | None:
    if lease.state == LeaseState.RUNNING and lease.idle_since is not None:
        return max(0.0, (moment - lease.idle_since).total_seconds())
    return 0.0 if lease.idle_verdict == Verdict.ACTIVE else None
