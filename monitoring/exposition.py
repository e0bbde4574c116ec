"""A node's last sample as Prometheus metrics. What cannot be measured has no series."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from leasing.schema.report import DeviceReport, NodeReport

GPU: tuple[tuple[str, str, Callable[[DeviceReport], float | None]], ...] = (
    ("leasing_gpu_utilization_ratio", "GPU utilisation, 0 to 1.", lambda device: device.utilization_ratio),
    ("leasing_gpu_memory_used_bytes", "Memory in use.", lambda device: device.memory_used_bytes),
    ("leasing_gpu_memory_total_bytes", "Memory there is.", lambda device: device.memory_bytes),
    ("leasing_gpu_power_watts", "Power drawn.", lambda device: device.power_watts),
    ("leasing_gpu_temperature_celsius", "Temperature.", lambda device: device.temperature_celsius),
)
NODE: tuple[tuple[str, str, Callable[[NodeReport], float | None]], ...] = (
    ("leasing_node_cpus", "Processors.", lambda report: report.cpus),
    (
        "leasing_node_cpu_utilization_ratio",
        "CPU utilisation, 0 to 1.",
        lambda report: report.cpu_utilization_ratio,
    ),
    ("leasing_node_memory_total_bytes", "Memory there is.", lambda report: report.memory_bytes),
    ("leasing_node_memory_used_bytes", "Memory in use.", lambda report: report.memory_used_bytes),
)


class NodeCollector(Collector):
    """Reads only the sample that is there already: a scrape asks neither NVML nor the kernel."""

    def __init__(self, node: str, last: Callable[[], NodeReport | None]) -> None:
        self._node = node
        self._last = last

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        report = self._last()
        if report is None:
            return
        for name, words, value_of in NODE:
            if (value := value_of(report)) is not None:
                family = GaugeMetricFamily(name, words, labels=["node"])
                family.add_metric([self._node], value)
                yield family
        for name, words, read in GPU:
            family = GaugeMetricFamily(name, words, labels=["uuid", "node"])
            for device in report.devices or ():
                if (value := read(device)) is not None:
                    family.add_metric([device.uuid, self._node], value)
            yield family


def registry(node: str, last: Callable[[], NodeReport | None]) -> CollectorRegistry:
    """A registry of its own for the node's metrics."""
    made = CollectorRegistry()
    made.register(NodeCollector(node, last))
    return made
