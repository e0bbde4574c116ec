"""How much a lease uses a device: all there is of a whole one, its own processes' part of one that it shares."""

from __future__ import annotations

from leasing.schema.report import DeviceReport
from leasing.service.holders import Grant


def ratio(grant: Grant, report: DeviceReport | None, container_id: str | None) -> float | None:
    """From 0 to 1; None where it cannot be told.

    Of a shared device never the whole device's figure: that would be each sharer's activity. A lease without a process
    on it uses nothing of it.
    """
    if report is None:
        return None
    if grant.whole:
        return report.utilization_ratio
    if report.processes is None or container_id is None:
        return None
    total = 0.0
    for process in report.processes:
        if process.container_id == container_id:
            if process.utilization_ratio is None:
                return None
            total += process.utilization_ratio
    return min(1.0, total)
