"""The ceilings a request meets before it may wait: what a user may have, and what any node could ever give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import NeverFits, OverQuota
from leasing.gpus import WHOLE, GpuAsk
from leasing.model import Device, DeviceUsage, Lease, NodeUsage, Quota, User
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import DeviceHealth, LeaseState
from leasing.units import format_size


def check_user(
    session: Session, principal: Principal, ask: GpuAsk, share: int, limits: LimitSettings
) -> None:
    """Raises `OverQuota` if the ask, for `share` thousandths of each device, puts its user over a ceiling.

    Locks the user's row: two asks cannot both pass. Parts of devices count as such.
    """
    session.execute(sa.select(User.id).where(User.id == principal.user_id).with_for_update(key_share=True))
    own = session.execute(
        sa.select(Quota.max_devices).where(Quota.user_id == principal.user_id)
    ).scalar_one_or_none()
    leases, held = session.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(Lease.gpu_count * Lease.gpu_share), 0)).where(
            Lease.owner_id == principal.user_id,
            Lease.state.not_in([LeaseState.ENDED, LeaseState.SUSPENDED]),
        )
    ).one()
    most = limits.devices_per_user if own is None else own
    wanted = held + ask.count * share
    if ask.count and wanted > most * WHOLE:
        raise OverQuota(
            f"That would be {wanted / WHOLE:g} devices for {principal.name}; the limit is {most:g} "
            f"({held / WHOLE:g} held or waited for now).",
            hint="Release a lease (lease ls), ask for fewer, or ask an admin for a higher limit.",
        )
    if leases + 1 > limits.leases_per_user:
        raise OverQuota(
            f"{principal.name} has {leases} live leases; the limit is {limits.leases_per_user}.",
            hint="Release one: lease ls, then lease release NAME.",
        )


def share_of_largest(session: Session, ask: GpuAsk) -> int:
    """The share that the ask is of the largest device that would do, in thousandths; all of one if none would."""
    if ask.memory_bytes is None:
        return ask.share
    found = [kind for kind in _kinds(session) if ask.takes(kind.model, instance=kind.instance)]
    return ask.share_of(max((kind.memory_bytes for kind in found), default=0)) or WHOLE


def check_fits_somewhere(session: Session, ask: GpuAsk, cpus_millis: int, memory_bytes: int) -> None:
    """Raises `NeverFits` if no node is large enough, busy or not; says what the largest ones have."""
    nodes = session.execute(
        sa.select(NodeUsage.node_id, NodeUsage.cpus_millis, NodeUsage.memory_bytes).where(
            NodeUsage.cpus_millis > 0
        )
    ).all()
    if not nodes:
        raise NeverFits(
            "No node has reported what it has yet.",
            hint="Try again in a few seconds; lease admin nodes shows them.",
        )
    kinds = _kinds(session) if ask.count else []
    found = [kind for kind in kinds if ask.takes(kind.model, instance=kind.instance)]
    large = [kind for kind in found if ask.share_of(kind.memory_bytes) is not None]
    devices: Counter[UUID] = Counter()
    for kind in large:
        devices[kind.node_id] += kind.devices
    if any(
        cpus >= cpus_millis and memory >= memory_bytes and devices[node_id] >= ask.count
        for node_id, cpus, memory in nodes
    ):
        return
    most_cpus = max(cpus for _, cpus, _ in nodes)
    most_memory = max(memory for _, _, memory in nodes)
    if cpus_millis > most_cpus:
        raise NeverFits(
            f"No node has {cpus_millis / 1000:g} CPUs; the largest has {most_cpus / 1000:g}.",
            hint=f"Ask for --cpus {most_cpus / 1000:g} or fewer.",
        )
    if memory_bytes > most_memory:
        raise NeverFits(
            f"No node has {format_size(memory_bytes)} of memory to lease; the largest has {format_size(most_memory)}.",
            hint=f"Ask for --memory {most_memory // 2**20}M or less.",
        )
    if ask.count:
        _check_devices(ask, kinds, found, max(devices.values(), default=0))
    raise NeverFits(
        f"No single node has {ask} devices with {cpus_millis / 1000:g} CPUs and {format_size(memory_bytes)} together.",
        hint="lease offers shows what each has.",
    )


@dataclass(frozen=True)
class _Kind:
    """So many devices of one kind on a node; `instance`: of MIG."""

    node_id: UUID
    model: str
    memory_bytes: int
    instance: bool
    devices: int


def _kinds(session: Session) -> list[_Kind]:
    """What nodes have, lost and faulty devices included: they may come back."""
    instance = Device.parent_uuid.is_not(None)
    rows = session.execute(
        sa.select(Device.node_id, Device.model, Device.memory_bytes, instance, sa.func.count())
        .join(DeviceUsage)
        .where(DeviceUsage.share == WHOLE, Device.health != DeviceHealth.RETIRED)
        .group_by(Device.node_id, Device.model, Device.memory_bytes, instance)
    )
    return [_Kind(*row) for row in rows]


def _check_devices(ask: GpuAsk, kinds: Sequence[_Kind], found: Sequence[_Kind], most: int) -> None:
    """Raises `NeverFits` if devices are what lacks: `found` are of the model asked for, `most` fit on one node."""
    if ask.model and not found:
        there = ", ".join(sorted({kind.model for kind in kinds}))
        raise NeverFits(
            f"No node has a device of model {ask.model!r}. There is: {there or 'no device at all'}.",
            hint="lease offers shows what there is.",
        )
    of_model = f" {ask.model}" if ask.model else ""
    if ask.memory_bytes is not None and found and not most:
        largest = max(kind.memory_bytes for kind in found)
        raise NeverFits(
            f"No{of_model} device has {format_size(ask.memory_bytes)} of memory; "
            f"the largest has {format_size(largest)}.",
            hint=f"Ask for --gpu {format_size(largest // 2**30 * 2**30)}B or less, or for whole devices.",
        )
    if ask.count > most:
        raise NeverFits(
            f"No node has {ask.count}{of_model} devices; the largest has {most}."
            if most
            else f"No node has a{of_model} device that can be leased.",
            hint="lease offers shows what there is." if most else "Ask without --gpu for a lease on CPUs.",
        )
