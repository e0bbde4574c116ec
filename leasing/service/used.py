"""What runs are measured to use, added up by hour as samples come in; a gap between samples counts as not measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.gpus import WHOLE
from leasing.model import RunSample, RunUse
from leasing.schema.report import ContainerReport, DeviceReport
from leasing.service import device_use
from leasing.service.holders import Holder

GAP_SECONDS = 15.0
"""Samples further apart than this say nothing of the time between them."""
HOUR = timedelta(hours=1)
MACHINE = ""
"""Stands for a device's model where CPU and memory are meant."""


@dataclass(frozen=True)
class Part:
    """What a run has of a device, in thousandths, and how busy it kept that device, 0 to 1; None: not measured."""

    model: str
    share: int
    ratio: float | None


@dataclass(frozen=True)
class Reading:
    """What a run was measured to do between two of its samples. `cpu_seconds` is None where the counter began anew."""

    run_id: UUID
    since: datetime
    cpu_seconds: float | None
    memory_bytes: int
    parts: Sequence[Part] = ()


def readings(
    sampled: Iterable[tuple[Holder, ContainerReport]],
    before: Mapping[UUID, RunSample],
    devices: Mapping[UUID, DeviceReport],
) -> list[Reading]:
    """What each run did since its sample before, as a report tells."""
    found = []
    for holder, container in sampled:
        if (old := before.get(holder.run_id)) is None:
            continue
        cpu = container.cpu_seconds_total - old.cpu_seconds_total
        parts = [
            Part(one.model, grant.share, device_use.ratio(grant, one, holder.container_id))
            for key, grant in holder.devices.items()
            if (one := devices.get(key)) is not None and one.health == "ok"
        ]
        memory = container.memory_working_set_bytes
        found.append(Reading(holder.run_id, old.at, cpu if cpu >= 0 else None, memory, parts))
    return found


def add(session: Session, readings: Iterable[Reading], *, now: datetime) -> None:
    """Count what was measured from each reading's `since` until now."""
    sums: dict[tuple[UUID, datetime, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for reading in readings:
        whole = (now - reading.since).total_seconds()
        if not 0 < whole <= GAP_SECONDS:
            continue
        for hour, seconds in _hours(reading.since, now):
            for model, measured, used, memory in _rates(reading, whole):
                total = sums[reading.run_id, hour, model]
                for at, rate in enumerate((measured, used, memory)):
                    total[at] += rate * seconds
    if not sums:
        return
    rows = [
        {"run_id": run_id, "hour": hour, "model": model, "measured": measured, "used": used,
         "memory_byte_seconds": memory}
        for (run_id, hour, model), (measured, used, memory) in sorted(sums.items())
    ]  # fmt: skip
    new = insert(RunUse).values(rows)
    session.execute(
        new.on_conflict_do_update(
            index_elements=[RunUse.run_id, RunUse.hour, RunUse.model],
            set_={
                name: RunUse.__table__.c[name] + new.excluded[name]
                for name in ("measured", "used", "memory_byte_seconds")
            },
        )
    )


def hour_of(moment: datetime) -> datetime:
    """The hour that a moment lies in; hours are UTC's."""
    return moment.replace(minute=0, second=0, microsecond=0)


def _hours(since: datetime, until: datetime) -> Iterable[tuple[datetime, float]]:
    """The part of the time that lies in each hour, in seconds."""
    hour = hour_of(since)
    while hour < until:
        begin, end = max(since, hour), min(until, hour + HOUR)
        yield hour, (end - begin).total_seconds()
        hour += HOUR


def _rates(reading: Reading, whole: float) -> Iterable[tuple[str, float, float, float]]:
    """Model, and per second: what was measured, device- or CPU-seconds used, bytes of memory."""
    if reading.cpu_seconds is not None:
        yield MACHINE, 1.0, reading.cpu_seconds / whole, float(reading.memory_bytes)
    for part in reading.parts:
        if part.ratio is not None:
            yield part.model, part.share / WHOLE, part.ratio, 0.0
