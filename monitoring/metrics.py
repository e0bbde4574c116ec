"""Every metric of the platform and of its nodes' samplers: name, kind, meaning, labels. docs/metrics.md is made of it.

Grammar: `leasing_` first; base units, `_seconds`, `_bytes`, `_ratio` (0 to 1); counters end in `_total`; `_info` rows
are 1 and there to be joined. Names of leases and owners stand in `leasing_lease_info` only: no user's text in a hot
label. What cannot be measured has no series, never a 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily


class Source(StrEnum):
    """Whose `/metrics` a family stands on."""

    PLATFORM = "platform"
    NODE = "node"


@dataclass(frozen=True)
class Family:
    """One metric under the name by which Prometheus knows it."""

    name: str
    words: str
    labels: tuple[str, ...] = ()
    source: Source = Source.PLATFORM


class Gauge(Family):
    """Goes up and down."""

    def new(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self.name, self.words, labels=self.labels)


class Counter(Family):
    """Only grows, over restarts of ours too: it is counted from rows."""

    def new(self) -> CounterMetricFamily:
        return CounterMetricFamily(self.name, self.words, labels=self.labels)


class Histogram(Family):
    """Counted into buckets, from rows too."""

    def new(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self.name, self.words, labels=self.labels)


LEASE = ("lease_id",)
DEVICE = ("uuid", "node")
NODE = ("node",)

BUILD_INFO = Gauge("leasing_build_info", "The version that answers.", ("version",))
DATABASE_UP = Gauge(
    "leasing_database_up", "0 if the database did not answer this scrape; what it knows is left out then."
)

LEASES = Gauge("leasing_leases", "Leases in a state.", ("state",))
QUEUE_DEPTH = Gauge("leasing_queue_depth", "Leases that wait for room.")
RESERVATIONS_LATE = Gauge(
    "leasing_reservations_late", "Reservations that have begun and whose devices others still hold."
)
QUEUE_WAIT = Histogram("leasing_queue_wait_seconds", "From the request to its first place.")
START = Histogram("leasing_lease_start_seconds", "From its place to a running container.", ("phase",))
WARM = Gauge(
    "leasing_warm",
    "What is kept ready on a node: sandboxes, and containers that wait.",
    ("node", "role", "state"),
)
STARTS = Counter(
    "leasing_starts_total",
    "Runs by what was ready for them: a warm container, a sandbox, or none.",
    ("ready",),
)
FORECAST_ERROR = Histogram(
    "leasing_forecast_error_seconds", "Between the start that a waiting lease was first told and its place."
)
TRANSITIONS = Counter("leasing_lease_transitions_total", "Changes of state.", ("from", "to", "reason"))
NOTICES = Counter(
    "leasing_notices_total",
    "Warnings that were delivered, given up, or void.",
    ("kind", "channel", "outcome"),
)
OUTBOX_DEPTH = Gauge("leasing_outbox_depth", "Warnings that wait to be delivered.")
OUTBOX_AGE = Gauge("leasing_outbox_oldest_seconds", "How long the oldest of them has waited; 0 if none does.")
RECLAIMS = Counter("leasing_reclaims_total", "Leases taken back by the platform.", ("reason",))
CONFLICTS = Counter("leasing_allocation_conflicts_total", "Placements that the database refused.")

LEASE_INFO = Gauge(
    "leasing_lease_info",
    "A live lease, to join names with.",
    ("lease_id", "name", "owner", "project", "state"),
)
LEASE_GPU_INFO = Gauge(
    "leasing_lease_gpu_info", "Which lease holds a device, to join by.", ("lease_id", "uuid")
)
LEASE_GPU_UTILIZATION = Gauge(
    "leasing_lease_gpu_utilization_ratio", "Utilisation of a lease's busiest device.", LEASE
)
LEASE_GPU_MEMORY = Gauge("leasing_lease_gpu_memory_used_bytes", "Memory in use on all its devices.", LEASE)
LEASE_GPU_SECONDS = Counter(
    "leasing_lease_gpu_seconds_total",
    "Device-seconds of a live lease: allocated by shares while its container ran, and used.",
    ("lease_id", "kind"),
)
LEASE_CPU_SECONDS = Counter("leasing_lease_cpu_seconds_total", "CPU time of its container.", LEASE)
LEASE_CPU_CORES = Gauge(
    "leasing_lease_cpu_utilization_cores", "Cores in use between the last two samples.", LEASE
)
LEASE_MEMORY = Gauge("leasing_lease_memory_working_set_bytes", "Memory in use, page cache left out.", LEASE)
LEASE_IDLE = Gauge(
    "leasing_lease_idle_seconds", "How long every signal has been quiet; none while that is unknown.", LEASE
)
LEASE_SIGNAL = Gauge(
    "leasing_lease_signal_active",
    "Whether a signal of activity is active: 1, or 0 while it is quiet; none while it is unknown or does not apply.",
    ("lease_id", "signal"),
)
LEASE_DEVICE_FAULT = Gauge(
    "leasing_lease_device_fault", "1 while a lease has lost a device; no series else.", LEASE
)
LEASE_EXPIRES = Gauge("leasing_lease_expires_timestamp_seconds", "When its time is over.", LEASE)

WORKSPACE_INFO = Gauge(
    "leasing_workspace_info",
    "A workspace, to join names with.",
    ("workspace_id", "name", "owner", "project", "node"),
)
WORKSPACE_SIZE = Gauge("leasing_workspace_size_bytes", "What is in it, as last measured.", ("workspace_id",))
WORKSPACE_QUOTA = Gauge(
    "leasing_workspace_quota_bytes", "The most that it may hold.", ("workspace_id", "kind")
)

GPU_INFO = Gauge("leasing_gpu_info", "A device and its model.", (*DEVICE, "model"))
GPU_STATE = Gauge("leasing_gpu_state", "1 for the state that a device is in.", (*DEVICE, "state"))
DEVICE_SECONDS = Counter(
    "leasing_device_seconds_total",
    "Where a device's time went, in whole hours once they are sealed; the classes sum to its capacity.",
    (*DEVICE, "class"),
)
GPU_HEALTHY = Gauge(
    "leasing_gpu_healthy", "0 for a device that is lost, faulty, or gone while leased.", DEVICE
)

NODE_READY = Gauge("leasing_node_ready", "1 if a node's engine answers.", NODE)
NODE_REPORTED = Gauge("leasing_node_report_timestamp_seconds", "When its sampler last reported.", NODE)
NODE_CPUS_LEASED = Gauge("leasing_node_cpus_leased", "Processors placed on it.", NODE)
NODE_MEMORY_LEASED = Gauge("leasing_node_memory_leased_bytes", "Memory placed on it.", NODE)
NODE_DISK_FREE = Gauge("leasing_node_disk_free_bytes", "Disk left to its engine.", NODE)

REQUESTS = Counter("leasing_gateway_requests_total", "Calls of an endpoint.", LEASE)
CACHE_HITS = Counter(
    "leasing_gateway_cache_hits_total", "Calls of an endpoint that were answered from the cache.", LEASE
)
CACHE_MISSES = Counter(
    "leasing_gateway_cache_misses_total",
    "Calls of an endpoint that the cache was asked for in vain; others go past it.",
    LEASE,
)
GATEWAY_BYTES = Counter(
    "leasing_gateway_bytes_total", "Bytes through an endpoint.", ("lease_id", "direction")
)

REQUEST_SECONDS = Histogram(
    "leasing_gateway_request_seconds",
    "From a call's arrival to the end of its answer, of all endpoints; WebSockets left out.",
)

GPU_UTILIZATION = Gauge("leasing_gpu_utilization_ratio", "Utilisation of a device.", DEVICE, Source.NODE)
GPU_MEMORY_USED = Gauge("leasing_gpu_memory_used_bytes", "Memory in use on a device.", DEVICE, Source.NODE)
GPU_MEMORY_TOTAL = Gauge("leasing_gpu_memory_total_bytes", "Memory of a device.", DEVICE, Source.NODE)
GPU_POWER = Gauge("leasing_gpu_power_watts", "Power that a device draws.", DEVICE, Source.NODE)
GPU_TEMPERATURE = Gauge("leasing_gpu_temperature_celsius", "Temperature of a device.", DEVICE, Source.NODE)
NODE_CPUS = Gauge("leasing_node_cpus", "Processors of the node.", NODE, Source.NODE)
NODE_CPU_UTILIZATION = Gauge(
    "leasing_node_cpu_utilization_ratio", "CPU utilisation of the node, all of it.", NODE, Source.NODE
)
NODE_MEMORY_TOTAL = Gauge("leasing_node_memory_total_bytes", "Memory of the node.", NODE, Source.NODE)
NODE_MEMORY_USED = Gauge("leasing_node_memory_used_bytes", "Memory in use on the node.", NODE, Source.NODE)

FAMILIES: tuple[Family, ...] = tuple(value for value in globals().values() if isinstance(value, Family))
