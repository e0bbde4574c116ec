"""What each lease uses of the devices it shares: by its container's processes, as NVML lists them by their host PIDs.

However a process came to be (the lease's command, a child of it, `lease exec`), its cgroup is the container's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.model import AllocationSample
from leasing.schema.report import DeviceReport
from leasing.service.holders import Grant, Holder
from leasing.settings.device_memory import DeviceMemorySettings
from leasing.units import format_size

UNKNOWN_AFTER = timedelta(seconds=30)
"""A lease not seen for so long is unknown: it is not judged, and when it is seen again its time over begins anew."""


def attribute(
    session: Session,
    holders: Sequence[Holder],
    reports: Mapping[UUID, DeviceReport],
    *,
    now: datetime,
    settings: DeviceMemorySettings,
) -> dict[UUID, int]:
    """Write down what each part of a device is used, with since when it is more than the part; by allocation.

    `reports` are by the device's id. What cannot be measured is left out.
    """
    seen = {
        grant.allocation_id: (grant, used)
        for holder in holders
        for device_id, grant in holder.devices.items()
        if not grant.whole
        and device_id in reports
        and (used := _used(reports[device_id], holder.container_id)) is not None
    }
    if seen:
        _write(session, seen, now, settings)
    return {allocation_id: used for allocation_id, (_, used) in seen.items()}


def excess(index: int, used: int, part: int) -> str:
    """What is wrong, in words that follow a lease's name."""
    return f"uses {format_size(used)} of GPU {index}, and its part is {format_size(part)}"


def way_out(used: int, device_memory: int) -> str:
    """How a lease that needs `used` bytes gets them."""
    gigabytes = -(-used // 2**30)
    ask = f"--gpu {gigabytes}GB" if gigabytes * 2**30 < device_memory else "--gpu 1"
    return f"To have more, lease it with {ask}."


def _used(report: DeviceReport, container_id: str | None) -> int | None:
    if report.health != "ok" or report.processes is None or container_id is None:
        return None
    total = 0
    for process in report.processes:
        if process.container_id == container_id:
            if process.memory_bytes is None:
                return None
            total += process.memory_bytes
    return total


def _write(
    session: Session, seen: dict[UUID, tuple[Grant, int]], now: datetime, settings: DeviceMemorySettings
) -> None:
    new = insert(AllocationSample).values(
        [
            {
                "allocation_id": allocation_id,
                "at": now,
                "memory_used_bytes": used,
                "over_since": now if used > settings.limit(grant.memory_bytes) else None,
            }
            for allocation_id, (grant, used) in sorted(seen.items())
        ]
    )
    over, gap = new.excluded.over_since, AllocationSample.at < now - UNKNOWN_AFTER
    session.execute(
        new.on_conflict_do_update(
            index_elements=[AllocationSample.allocation_id],
            set_={
                "at": new.excluded.at,
                "memory_used_bytes": new.excluded.memory_used_bytes,
                "over_since": sa.case(
                    (sa.or_(over.is_(None), gap), over),
                    else_=sa.func.coalesce(AllocationSample.over_since, over),
                ),
                "warned_at": sa.case(
                    (sa.or_(over.is_(None), gap), sa.null()), else_=AllocationSample.warned_at
                ),
            },
        )
    )
