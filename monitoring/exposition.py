"""A node's last sample as Prometheus metrics. What cannot be measured has no series."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from leasing.schema.report import DeviceReport, NodeReport
from monitoring import metrics

GPU: tuple[tuple[metrics.Gauge, Callable[[DeviceReport], float | None]], ...] = (
    (metrics.GPU_UTILIZATION, lambda device: device.utilization_ratio),
    (metrics.GPU_MEMORY_USED, lambda device: device.memory_used_bytes),
    (metrics.GPU_MEMORY_TOTAL, lambda device: device.memory_bytes),
    (metrics.GPU_POWER, lambda device: device.power_watts),
    (metrics.GPU_TEMPERATURE, lambda device: device.temperature_celsius),
)
NODE: tuple[tuple[metrics.Gauge, Callable[[NodeReport], float | None]], ...] = (
    (metrics.NODE_CPUS, lambda report: report.cpus),
    (metrics.NODE_CPU_UTILIZATION, lambda report: report.cpu_utilization_ratio),
    (metrics.NODE_MEMORY_TOTAL, lambda report: report.memory_bytes),
    (metrics.NODE_MEMORY_USED, lambda report: report.memory_used_bytes),
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
        for gauge, value_of in NODE:
            if (value := value_of(report)) is not None:
                family = gauge.new()
                family.add_metric([self._node], value)
                yield family
        for gauge, read in GPU:
            family = gauge.new()
            for device in report.devices or ():
                if (value := read(device)) is not None:
                    family.add_metric([device.uuid, self._node], value)
            yield family


def registry(node: str, last: Callable[[], NodeReport | None]) -> CollectorRegistry:
    """A registry of its own for the node's metrics."""
    made = CollectorRegistry()
    made.register(NodeCollector(node, last))
    return made
