"""Nodes and devices: registering, cordoning, and how they are."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.errors import NotFound
from leasing.gpus import WHOLE
from leasing.model import Allocation, Device, DeviceUsage, Lease, Node, NodeUsage, Run, User
from leasing.schema.cluster import DevicePage, DeviceStateOut, NodeOut, NodePage, PartOut
from leasing.service import events, handover, lost_nodes
from leasing.service.nodes import locked
from leasing.service.principal import Principal
from leasing.states import DeviceHealth, NodeIntent

STALE = timedelta(seconds=30)
"""A device or node not heard of for so long is unknown: nothing new is placed on its devices."""


def register_node(session: Session, name: str, *, driver: str, address: str) -> tuple[Node, str]:
    """The node of that name, made or brought up to date, and a fresh token for its sampler (the old one falls).

    What it has is 0 until its sampler first reports.
    """
    secret = f"lsn_{secrets.token_urlsafe(32)}"
    hashed = hashlib.sha256(secret.encode()).digest()
    node_id, new = session.execute(
        insert(Node)
        .values(name=name, driver=driver, address=address, token_hash=hashed)
        .on_conflict_do_update(
            index_elements=[Node.name], set_={"driver": driver, "address": address, "token_hash": hashed}
        )
        .returning(Node.id, sa.literal_column("xmax = 0", sa.Boolean))
    ).one()
    session.execute(
        insert(NodeUsage).values(node_id=node_id, cpus_millis=0, memory_bytes=0).on_conflict_do_nothing()
    )
    node = session.get_one(Node, node_id)
    if new:
        events.record(session, "node.joined", f"node {name} joined", actor="system", node_id=node.id)
    return node, secret


def authenticate_node(session: Session, name: str, secret: str) -> Node | None:
    """The node, if that is its token."""
    hashed = hashlib.sha256(secret.encode()).digest()
    return session.execute(
        sa.select(Node).where(Node.name == name, Node.token_hash == hashed)
    ).scalar_one_or_none()


def nodes(session: Session, *, now: datetime) -> NodePage:
    """Every node, with what is placed on it."""
    free = free_devices(session, now)
    totals = dict(
        session.execute(
            sa.select(Device.node_id, sa.func.count())
            .join(DeviceUsage)
            .where(DeviceUsage.share > 0, Device.health != DeviceHealth.RETIRED)
            .group_by(Device.node_id)
        ).all()
    )
    leases = lost_nodes.leases_there(session)
    lying = lost_nodes.workspaces_there(session)
    rows = session.execute(
        sa.select(Node, NodeUsage).join(NodeUsage, NodeUsage.node_id == Node.id).order_by(Node.name)
    )
    return NodePage(
        items=[
            NodeOut(
                id=node.id,
                name=node.name,
                driver=node.driver,
                address=node.address,
                health=node.health,
                health_reason=node.health_reason,
                intent=node.intent,
                labels=node.labels,
                cpus=usage.cpus_millis / 1000,
                cpus_used=usage.cpus_used_millis / 1000,
                memory_bytes=usage.memory_bytes,
                memory_used_bytes=usage.memory_used_bytes,
                devices=totals.get(node.id, 0),
                devices_free=sum(free[node.id].values()),
                leases=leases[node.id],
                workspaces=lying[node.id],
                engine_version=node.engine.get("version"),
                disk_quota=node.engine.get("disk_quota"),
                gpu=_gpu(node),
                engine_seen_at=node.engine_seen_at,
                sampler_seen_at=node.sampler_seen_at,
            )
            for node, usage in rows
        ]
    )


def devices(session: Session, *, now: datetime) -> DevicePage:
    """Every device that is reported, with its state and who holds it."""
    holder = (
        sa.select(
            Allocation.device_id,
            sa.func.string_agg(Lease.name, ", ").label("lease"),
            sa.func.string_agg(sa.distinct(User.name), ", ").label("owner"),
        )
        .join(Run, Run.id == Allocation.run_id)
        .join(Lease, Lease.id == Run.lease_id)
        .join(User, User.id == Lease.owner_id)
        .where(Allocation.released_at.is_(None))
        .group_by(Allocation.device_id)
        .subquery()
    )
    rows = session.execute(
        sa.select(Device, Node.name, Node.intent, DeviceUsage, holder.c.lease, holder.c.owner)
        .join(Node, Node.id == Device.node_id)
        .join(DeviceUsage, DeviceUsage.device_id == Device.id)
        .outerjoin(holder, holder.c.device_id == Device.id)
        .where(Device.health != DeviceHealth.RETIRED)
        .order_by(Node.name, Device.index, Device.uuid)
    )
    return DevicePage(
        items=[
            _device_out(device, node, NodeIntent(intent), usage, lease, owner, now)
            for device, node, intent, usage, lease, owner in rows
        ]
    )


def set_node_intent(session: Session, name: str, intent: NodeIntent, *, principal: Principal) -> None:
    """Cordon, drain or open a node. Raises `NotFound`."""
    node = locked(session, name)
    if node.intent != intent:
        node.intent = intent
        message = f"{principal.name} made node {name} {intent}"
        events.record(session, f"node.{intent}", message, actor=principal.actor, node_id=node.id)


def set_device_intent(session: Session, uuid: str, intent: NodeIntent, *, principal: Principal) -> None:
    """Cordon or open a device. Raises `NotFound`."""
    device = session.execute(
        sa.select(Device).where(Device.uuid == uuid).with_for_update()
    ).scalar_one_or_none()
    if device is None:
        raise NotFound(f"There is no device {uuid[:60]!r}.", hint="lease admin devices shows them.")
    if device.intent != intent:
        device.intent = intent
        message = f"{principal.name} made device {uuid} {intent}"
        events.record(
            session,
            f"device.{intent}",
            message,
            actor=principal.actor,
            node_id=device.node_id,
            device_id=device.id,
        )


class Condition(Protocol):
    """What of a device's row says whether it may be leased, however it was read."""

    @property
    def intent(self) -> str: ...
    @property
    def quarantined_since(self) -> datetime | None: ...
    @property
    def quarantine_reason(self) -> str: ...
    @property
    def health(self) -> str: ...
    @property
    def health_reason(self) -> str: ...
    @property
    def mig_enabled(self) -> bool: ...
    @property
    def sampled_at(self) -> datetime | None: ...
    @property
    def cleared_at(self) -> datetime | None: ...
    @property
    def foreign_since(self) -> datetime | None: ...


def unfit(device: Condition, released_at: datetime | None, now: datetime) -> str | None:
    """Why nothing new may be placed on a device, holder or not; None if it may.

    `released_at` is when a part of it was last given back.
    """
    if device.intent != NodeIntent.OPEN:
        return "cordoned by an admin"
    if device.quarantined_since is not None:
        return f"quarantined: {device.quarantine_reason}"
    if device.health != DeviceHealth.OK:
        return f"{device.health}: {device.health_reason or 'NVML says so'}"
    if device.mig_enabled:
        return "leased through its MIG instances"
    if device.sampled_at is None or now - device.sampled_at > STALE:
        return "its node's sampler is silent"
    if handover.cleaning(device, released_at):
        reason = f": {device.quarantine_reason}" if device.quarantine_reason else ""
        return f"being cleaned after the last lease{reason}"
    if device.foreign_since is not None:
        return "used by a process that no lease owns"
    return None


def free_devices(session: Session, now: datetime) -> dict[UUID, Counter[str]]:
    """Per node, how many whole devices of each model could be placed on now."""
    free: dict[UUID, Counter[str]] = defaultdict(Counter)
    for device, usage in session.execute(
        sa.select(Device, DeviceUsage)
        .join(DeviceUsage)
        .where(DeviceUsage.share == WHOLE, DeviceUsage.share_used == 0)
    ):
        if unfit(device, usage.released_at, now) is None:
            free[device.node_id][device.model] += 1
    return free


def free_parts(session: Session, now: datetime) -> dict[UUID, list[PartOut]]:
    """Per node, what is left of devices that are leased in part, the largest first."""
    free: dict[UUID, list[PartOut]] = defaultdict(list)
    rows = session.execute(
        sa.select(Device, DeviceUsage)
        .join(DeviceUsage)
        .where(DeviceUsage.share_used > 0, DeviceUsage.share_used < DeviceUsage.share)
        .order_by(DeviceUsage.share_used)
    )
    for device, usage in rows:
        if unfit(device, usage.released_at, now) is None:
            free[device.node_id].append(
                PartOut(
                    model=device.model,
                    share=usage.share - usage.share_used,
                    memory_bytes=usage.memory_bytes - usage.memory_used_bytes,
                )
            )
    return free


def _device_out(
    device: Device,
    node: str,
    node_intent: NodeIntent,
    usage: DeviceUsage,
    lease: str | None,
    owner: str | None,
    now: datetime,
) -> DeviceStateOut:
    state, why = _device_state(device, node_intent, usage, lease, now)
    return DeviceStateOut(
        uuid=device.uuid,
        node=node,
        index=device.index,
        model=device.model,
        memory_bytes=device.memory_bytes,
        state=state,
        state_reason=why,
        lease=lease,
        owner=owner,
        utilization_ratio=device.utilization_ratio,
        memory_used_bytes=device.memory_used_bytes,
        power_watts=device.power_watts,
        temperature_celsius=device.temperature_celsius,
        sampled_at=device.sampled_at,
        intent=device.intent,
    )


def _device_state(
    device: Device, node_intent: NodeIntent, usage: DeviceUsage, lease: str | None, now: datetime
) -> tuple[str, str]:
    """free, leased, foreign, cleaning, quarantined, out or unknown, and why.

    What is on a device after a lease is a matter of its handover; foreign is what came by itself.
    """
    if lease is None and device.quarantined_since is not None:
        return "quarantined", device.quarantine_reason
    uncleaned = lease is None and handover.cleaning(device, usage.released_at)
    if device.foreign_since is not None and not uncleaned:
        count = len(device.foreign_processes)
        return "foreign", f"{count} process{'es' if count != 1 else ''} that no lease owns"
    if lease is not None:
        after = f"; then not leased again: {device.quarantine_reason}" if device.quarantined_since else ""
        return "leased", f"by {lease}{after}"
    if node_intent is not NodeIntent.OPEN:
        return "out", f"its node is {node_intent}"
    if usage.share == 0:
        return "out", "leased through its MIG instances"
    if device.health == DeviceHealth.OK and (device.sampled_at is None or now - device.sampled_at > STALE):
        return "unknown", "its node's sampler is silent"
    why = unfit(device, usage.released_at, now)
    if why is None:
        return "free", ""
    usual = device.intent == NodeIntent.OPEN and device.health == DeviceHealth.OK and not device.mig_enabled
    return ("cleaning" if uncleaned and usual else "out"), why


def _gpu(node: Node) -> str:
    version = node.sampler.get("nvml_driver_version")
    return (
        f"driver {version}" if version else str(node.sampler.get("nvml_absent_reason") or "not reported yet")
    )
