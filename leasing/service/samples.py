"""Samples of runs' containers: the last of each, and the signals of activity that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.model import Run, RunSample, SignalKind, Traffic
from leasing.schema.report import ContainerReport, DeviceReport
from leasing.service import device_memory, device_use, signals, used
from leasing.service.holders import Holder
from leasing.service.signals import Observation
from leasing.settings.device_memory import DeviceMemorySettings

GAP_SECONDS = 15.0
"""Samples further apart than this say nothing of the time between them."""
MEAN_SECONDS = 60.0
NO_DISK = "its machine's kernel does not count disk traffic by container"


def take(
    session: Session,
    reports: Sequence[ContainerReport],
    holders: Sequence[Holder],
    devices_seen: Mapping[UUID, DeviceReport],
    *,
    now: datetime,
) -> None:
    """Write down the last sample of each run's container, and what it says of its lease's activity."""
    attributed = device_memory.attribute(
        session, holders, devices_seen, now=now, settings=DeviceMemorySettings()
    )
    containers = {container.container_id: container for container in reports}
    sampled = [
        (holder, containers[holder.container_id]) for holder in holders if holder.container_id in containers
    ]
    if not sampled:
        return
    before = {
        sample.run_id: sample
        for sample in session.execute(
            sa.select(RunSample).where(RunSample.run_id.in_([holder.run_id for holder, _ in sampled]))
        ).scalars()
    }
    own: dict[UUID, int] = dict(
        session.execute(
            sa.select(Traffic.lease_id, Traffic.own_bytes_total).where(
                Traffic.lease_id.in_([holder.lease_id for holder, _ in sampled])
            )
        ).all()
    )
    healthy = {key: one for key, one in devices_seen.items() if one.health == "ok"}
    observations: list[Observation] = []
    values = []
    _fix_signals(
        session, [holder.run_id for holder, one in sampled if one.disk_bytes_total is None], set(before)
    )
    for holder, container in sampled:
        old = before.get(holder.run_id)
        cores = _rate(old.cpu_seconds_total if old else None, container.cpu_seconds_total, old, now)
        disk = _rate(old.disk_bytes_total if old else None, container.disk_bytes_total, old, now)
        own_bytes = own.get(holder.lease_id, 0)
        traffic = _mean(
            old.network_bytes_per_second if old else None,
            _rate(_network(old), _network(container), old, now),
            _rate(old.own_bytes_total if old else None, own_bytes, old, now),
            (now - old.at).total_seconds() if old else 0.0,
        )
        ratios = [
            device_use.ratio(grant, healthy.get(key), holder.container_id)
            for key, grant in holder.devices.items()
        ]
        memory = _memory(holder, healthy, attributed)
        gpu = None if None in ratios else max((ratio for ratio in ratios if ratio is not None), default=None)
        values.append(
            {
                "run_id": holder.run_id,
                "at": now,
                "cpu_seconds_total": container.cpu_seconds_total,
                "cpu_cores": cores,
                "memory_working_set_bytes": container.memory_working_set_bytes,
                "network_rx_bytes_total": container.network_rx_bytes_total,
                "network_tx_bytes_total": container.network_tx_bytes_total,
                "disk_bytes_total": container.disk_bytes_total,
                "own_bytes_total": own_bytes,
                "network_bytes_per_second": traffic,
                "gpu_utilization_ratio": gpu,
                "gpu_memory_used_bytes": memory,
                "gpu_used_seconds_total": _used(old, ratios, now),
            }
        )
        for kind, value in (
            (SignalKind.CPU, cores),
            (SignalKind.DISK, disk),
            (SignalKind.NETWORK, None if traffic is None else max(0.0, traffic)),
            (SignalKind.GPU, gpu),
            (SignalKind.GPU_MEMORY, _change(old.gpu_memory_used_bytes if old else None, memory)),
        ):
            if value is not None:
                observations.append(Observation(holder.lease_id, kind, value))
    used.add(session, used.readings(sampled, before, devices_seen), now=now)
    new = insert(RunSample).values(values)
    session.execute(
        new.on_conflict_do_update(
            index_elements=[RunSample.run_id],
            set_={name: new.excluded[name] for name in values[0] if name != "run_id"},
        )
    )
    signals.observe(session, observations, now=now)


def _fix_signals(session: Session, diskless: list[UUID], before: set[UUID]) -> None:
    """Its first sample says what the machine can measure of a run at all; what is missing later is unknown."""
    new = [run_id for run_id in diskless if run_id not in before]
    if new:
        session.execute(
            sa.update(Run).where(Run.id.in_(new)).values(inapplicable={SignalKind.DISK.value: NO_DISK})
        )


def _memory(
    holder: Holder, healthy: Mapping[UUID, DeviceReport], attributed: Mapping[UUID, int]
) -> int | None:
    """In use on all its devices: of whole ones all there is in use, of the others what its own processes use.

    None for none, and as soon as one of them cannot be measured.
    """
    total = 0
    for device_id, grant in holder.devices.items():
        if grant.whole:
            used = healthy[device_id].memory_used_bytes if device_id in healthy else None
        else:
            used = attributed.get(grant.allocation_id)
        if used is None:
            return None
        total += used
    return total if holder.devices else None


def _used(old: RunSample | None, ratios: Sequence[float | None], now: datetime) -> float | None:
    """Device-seconds in use so far: each device's utilisation counts for the time since the last sample.

    None as long as no device could be measured; a gap of more than `GAP_SECONDS` counts nothing.
    """
    before = old.gpu_used_seconds_total if old else None
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        return before
    seconds = (now - old.at).total_seconds() if old else 0.0
    return (before or 0.0) + (sum(known) * seconds if 0 < seconds <= GAP_SECONDS else 0.0)


def _change(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else abs(after - before)


def _mean(before: float | None, rate: float | None, own: float | None, seconds: float) -> float | None:
    """Bytes a second over the last minute or so (an exponential mean), without what open pages asked for by themselves.

    Those are told a few seconds later, so that what is left may be below 0 for a moment. None after a gap.
    """
    if rate is None or own is None or not 0 < seconds <= GAP_SECONDS:
        return None
    kept = math.exp(-seconds / MEAN_SECONDS)
    return (before or 0.0) * kept + (rate - own) * (1 - kept)


def _network(sample: RunSample | ContainerReport | None) -> float | None:
    if sample is None or sample.network_rx_bytes_total is None or sample.network_tx_bytes_total is None:
        return None
    return sample.network_rx_bytes_total + sample.network_tx_bytes_total


def _rate(before: float | None, after: float | None, old: RunSample | None, now: datetime) -> float | None:
    """A counter's growth per second; None for a first reading, and for a counter or a clock that went back."""
    if before is None or after is None or old is None or after < before:
        return None
    seconds = (now - old.at).total_seconds()
    return (after - before) / seconds if seconds > 0 else None
