"""Taking in what a node's sampler reports: capacity, devices, foreign use, samples and signals."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.gpus import WHOLE
from leasing.model import Device, DeviceUsage, Node, NodeUsage
from leasing.schema.report import DeviceReport, NodeReport, ProcessReport, ReportAccepted
from leasing.service import events, handover, holders, samples
from leasing.service.holders import Holder
from leasing.settings.handover import HandoverSettings
from leasing.states import DeviceHealth

INTERVAL_SECONDS = 2.0
RESERVED_MEMORY = 512 * 1024**2
"""Of a node's memory, kept for the machine itself."""

STARTED = ("boot_id", "nvml_driver_version")
"""Another one says that the devices were started anew."""
FACTS = {
    "sequence", "boot_id", "hostname", "cpus", "memory_bytes", "cpu_utilization_ratio", "memory_used_bytes",
    "nvml_driver_version", "nvml_absent_reason", "metrics_address",
}  # fmt: skip


def ingest(session: Session, node: Node, report: NodeReport, *, now: datetime) -> ReportAccepted:
    """Write one report. One older than the last of the same boot is passed over: reports may overtake each other."""
    session.refresh(
        node, with_for_update={"key_share": True}
    )  # the other may be in the middle of being written
    # before what is known of devices: who gave one back in between is then still among them
    open_runs = holders.of(session, node.id)
    known = [holder.container_id for holder in open_runs if holder.container_id]
    answer = ReportAccepted(
        known_containers=known,
        interval_seconds=INTERVAL_SECONDS,
        at=now,
        soon=any(holder.leaving and holder.devices for holder in open_runs),
    )
    last = node.sampler
    if last.get("boot_id") == report.boot_id and report.sequence <= last.get("sequence", -1):
        return answer
    node.sampler = report.model_dump(include=FACTS)
    node.sampler_seen_at = now
    _capacity(session, node.id, report)
    seen: dict[UUID, DeviceReport] = {}
    if report.devices is not None:
        topology = [link.model_dump() for link in report.links]
        if node.topology != topology:
            node.topology = topology
        anew = any(last.get(fact) not in (None, node.sampler[fact]) for fact in STARTED)
        devices = _devices(session, node, report.devices, now)
        answer.soon |= _hand_over(session, node, devices, open_runs, report.sampled_at, now, anew=anew)
        seen = {device.id: one for device, one in devices}
    samples.take(session, report.containers, open_runs, seen, now=now)
    return answer


def _capacity(session: Session, node_id: UUID, report: NodeReport) -> None:
    """What the node has; never below what is placed there, so that a shrunk node drains instead of failing."""
    cpus = sa.func.greatest(int(report.cpus * 1000), NodeUsage.cpus_used_millis)
    memory = sa.func.greatest(max(0, report.memory_bytes - RESERVED_MEMORY), NodeUsage.memory_used_bytes)
    session.execute(
        sa.update(NodeUsage)
        .where(
            NodeUsage.node_id == node_id,
            # as a rule nothing has changed, and then no placement waits for this row
            sa.or_(NodeUsage.cpus_millis != cpus, NodeUsage.memory_bytes != memory),
        )
        .values(cpus_millis=cpus, memory_bytes=memory)
    )


def _devices(
    session: Session, node: Node, reports: list[DeviceReport], now: datetime
) -> list[tuple[Device, DeviceReport]]:
    known = {
        device.uuid: device
        for device in session.execute(sa.select(Device).where(Device.node_id == node.id)).scalars()
    }
    found = []
    for report in reports:
        device = known.pop(report.uuid, None)
        if device is None:
            device = _appeared(session, node, report)
        _health(session, node, device, DeviceHealth(report.health), report.health_reason)
        _inventory(device, report, now)
        found.append((device, report))
    for device in known.values():
        _health(session, node, device, DeviceHealth.RETIRED, "no longer reported")
    session.flush()
    _device_capacity(session, node.id)
    return found


def _hand_over(
    session: Session,
    node: Node,
    devices: list[tuple[Device, DeviceReport]],
    holders: list[Holder],
    sampled_at: datetime | None,
    now: datetime,
    *,
    anew: bool,
) -> bool:
    """Judge who is on each device, and whether it is clean. Whether one waits for the proof that it is."""
    released: dict[UUID, datetime | None] = dict(
        session.execute(
            sa.select(DeviceUsage.device_id, DeviceUsage.released_at)
            .join(Device)
            .where(Device.node_id == node.id)
        ).all()
    )
    settings = HandoverSettings()
    waits = proven = False
    for device, report in devices:
        own = [holder for holder in holders if device.id in holder.devices]
        released_at = released[device.id]
        before = sampled_at is not None and released_at is not None and sampled_at < released_at
        if report.processes is not None and not before:
            # what runs in an instance is listed for the whole device too, which itself runs nothing
            _foreign(session, node, device, [] if device.mig_enabled else report.processes, holders, now)
        if device.mig_enabled:
            continue
        if anew and not own:
            handover.forget_floor(device)
        look = handover.Look(
            report=report,
            at=sampled_at,
            own=frozenset(holder.container_id for holder in own if holder.container_id),
            held=bool(own),
            released_at=released_at,
        )
        proven |= handover.take(session, node, device, look, now=now, settings=settings)
        waits |= (
            report.health == "ok"
            and device.quarantined_since is None
            and handover.cleaning(device, released_at)
        )
    if proven:
        events.hint(session, "device.clean")
    session.flush()
    return waits


def _appeared(session: Session, node: Node, report: DeviceReport) -> Device:
    device = Device(
        node_id=node.id,
        uuid=report.uuid,
        parent_uuid=report.parent_uuid,
        index=report.index,
        model=report.model,
        memory_bytes=report.memory_bytes,
        health=DeviceHealth.OK,
        foreign_processes=[],
    )
    session.add(device)
    session.flush()
    session.add(DeviceUsage(device_id=device.id, share=0, memory_bytes=0))
    message = f"{report.model} {report.uuid} appeared on {node.name}"
    events.record(
        session, "device.appeared", message, actor=f"node:{node.name}", node_id=node.id, device_id=device.id
    )
    return device


def _device_capacity(session: Session, node_id: UUID) -> None:
    """What can be leased of each device, never below what is: a parent of MIG instances is leased through them."""
    share = sa.func.greatest(sa.case((Device.mig_enabled, 0), else_=WHOLE), DeviceUsage.share_used)
    memory = sa.func.greatest(Device.memory_bytes, DeviceUsage.memory_used_bytes)
    session.execute(
        sa.update(DeviceUsage)
        .where(
            DeviceUsage.device_id == Device.id,
            Device.node_id == node_id,
            sa.or_(DeviceUsage.share != share, DeviceUsage.memory_bytes != memory),
        )
        .values(share=share, memory_bytes=memory)
        .execution_options(synchronize_session=False)
    )


def _inventory(device: Device, report: DeviceReport, now: datetime) -> None:
    device.index, device.model, device.memory_bytes = report.index, report.model, report.memory_bytes
    device.numa_node, device.pci_bus_id, device.mig_enabled = (
        report.numa_node,
        report.pci_bus_id,
        report.mig_enabled,
    )
    device.utilization_ratio, device.memory_used_bytes = report.utilization_ratio, report.memory_used_bytes
    device.power_watts, device.temperature_celsius = report.power_watts, report.temperature_celsius
    device.sampled_at = now


def _health(session: Session, node: Node, device: Device, health: DeviceHealth, reason: str) -> None:
    if device.health == health:
        device.health_reason = reason
        return
    kind = "device.recovered" if health is DeviceHealth.OK else f"device.{health}"
    message = f"{device.model} {device.uuid} on {node.name} is {health}" + (f": {reason}" if reason else "")
    device.health, device.health_reason = health, reason
    events.record(session, kind, message, actor=f"node:{node.name}", node_id=node.id, device_id=device.id)


def _foreign(
    session: Session,
    node: Node,
    device: Device,
    processes: list[ProcessReport],
    holders: list[Holder],
    now: datetime,
) -> None:
    """A process is foreign unless it runs in the container of a run that holds this very device.

    A holder whose container is being started has not told its id yet: what runs in a container that nobody else is
    known by may be its own, and is judged with the next report.
    """
    own = [holder for holder in holders if device.id in holder.devices]
    ours = {holder.container_id for holder in own}
    others = {holder.container_id for holder in holders} - ours
    starting = None in ours
    foreign = [
        process.model_dump()
        for process in processes
        if process.container_id is None
        or (process.container_id not in ours and (process.container_id in others or not starting))
    ]
    if foreign and device.foreign_since is None:
        device.foreign_since = now
        message = f"a process that no lease owns uses {device.model} {device.uuid} on {node.name}"
        events.record(
            session, "device.foreign", message, actor=f"node:{node.name}", node_id=node.id, device_id=device.id,
            data={"processes": foreign[:20]},
        )  # fmt: skip
    elif not foreign and device.foreign_since is not None:
        device.foreign_since = None
        message = f"no foreign process is left on {device.model} {device.uuid} on {node.name}"
        events.record(
            session,
            "device.foreign_ended",
            message,
            actor=f"node:{node.name}",
            node_id=node.id,
            device_id=device.id,
        )
    if device.foreign_processes != foreign:
        device.foreign_processes = foreign
