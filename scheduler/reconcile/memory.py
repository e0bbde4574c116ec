"""Watching shared devices: a lease that takes more memory than its part is warned, and stopped if it goes on.

Memory of a shared device is watched, not walled off: whoever takes more than their part takes it from the others on it.
What a lease uses is what all processes of its container use (`leasing.service.device_memory`), and while that is not
known nothing is done.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import Sessions, now
from leasing.model import Allocation, AllocationSample, Device, Lease, Run
from leasing.service import device_memory, events, transitions
from leasing.settings.device_memory import DeviceMemorySettings
from leasing.states import Cause, EndReason, Goal, LeaseState
from leasing.units import format_duration

ACTOR = "reclaimer"


def run_once(sessions: Sessions, settings: DeviceMemorySettings) -> None:
    """Warn and stop whoever is due, as their rows say under their locks."""
    with sessions.begin() as session:
        moment = now(session)
        stopped = set()
        for lease, part, sample, device in _due(session, settings, moment):
            if lease.id in stopped:
                continue
            excess = device_memory.excess(device.index, sample.memory_used_bytes, part.memory_bytes)
            way_out = device_memory.way_out(sample.memory_used_bytes, device.memory_bytes)
            if sample.warned_at is None:
                sample.warned_at = moment
                left = format_duration(settings.stop_seconds)
                events.record(
                    session, "lease.memory_warning",
                    f"{lease.name} {excess}; it is stopped in {left} unless it uses less. {way_out}",
                    actor=ACTOR, lease_id=lease.id, device_id=device.id,
                    data={"used_bytes": sample.memory_used_bytes, "part_bytes": part.memory_bytes},
                )  # fmt: skip
                continue
            over = format_duration((moment - sample.warned_at).total_seconds())
            stopped.add(lease.id)
            transitions.move(
                session, lease, LeaseState.STOPPING, Cause.RECLAIMER,
                now=moment, actor=ACTOR, reason=EndReason.FAILED, goal=Goal.ENDED,
                message=f"it {excess}, {over} after it was warned. {way_out}",
            )  # fmt: skip


def _due(
    session: Session, settings: DeviceMemorySettings, moment: datetime
) -> list[tuple[Lease, Allocation, AllocationSample, Device]]:
    """Parts of devices that have been overrun for long enough, as far as that is known; with their leases locked."""
    rows = session.execute(
        sa.select(Lease, Allocation, AllocationSample, Device)
        .join(Run, Run.lease_id == Lease.id)
        .join(Allocation, Allocation.run_id == Run.id)
        .join(AllocationSample, AllocationSample.allocation_id == Allocation.id)
        .join(Device, Device.id == Allocation.device_id)
        .where(
            Lease.state == LeaseState.RUNNING,
            Allocation.released_at.is_(None),
            AllocationSample.at > moment - device_memory.UNKNOWN_AFTER,
            AllocationSample.over_since <= moment - timedelta(seconds=settings.warn_seconds),
            sa.or_(
                AllocationSample.warned_at.is_(None),
                AllocationSample.warned_at <= moment - timedelta(seconds=settings.stop_seconds),
            ),
        )
        .order_by(Lease.id, Device.index)
        .with_for_update(of=[Lease, AllocationSample], skip_locked=True, key_share=True)
    )
    return [(lease, part, sample, device) for lease, part, sample, device in rows]
