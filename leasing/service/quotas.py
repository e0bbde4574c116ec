"""The ceilings a request meets before it may wait: what a user may have, and what any node could ever give."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import NeverFits, OverQuota
from leasing.model import Device, DeviceUsage, Lease, NodeUsage, User
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import DeviceHealth, LeaseState
from leasing.units import GpuAsk, format_size


def check_user(session: Session, principal: Principal, ask: GpuAsk, limits: LimitSettings) -> None:
    """Raises `OverQuota` if the ask puts its user over a ceiling. Locks the user's row: two asks cannot both pass."""
    user = session.execute(
        sa.select(User).where(User.id == principal.user_id).with_for_update(key_share=True)
    ).scalar_one()
    leases, devices = session.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(Lease.gpu_count), 0)).where(
            Lease.owner_id == principal.user_id,
            Lease.state.not_in([LeaseState.ENDED, LeaseState.SUSPENDED]),
        )
    ).one()
    most = limits.devices_per_user if user.max_devices is None else user.max_devices
    if ask.count and devices + ask.count > most:
        raise OverQuota(
            f"That would be {devices + ask.count} devices for {principal.name}; the limit is {most} "
            f"({devices} held or waited for now).",
            hint="Release a lease (lease ls), ask for fewer, or ask an admin for a higher limit.",
        )
    if leases + 1 > limits.leases_per_user:
        raise OverQuota(
            f"{principal.name} has {leases} live leases; the limit is {limits.leases_per_user}.",
            hint="Release one: lease ls, then lease release NAME.",
        )


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
    devices = _devices(session, ask.model) if ask.count else {}
    if any(
        cpus >= cpus_millis and memory >= memory_bytes and devices.get(node_id, 0) >= ask.count
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
    models = sorted(session.execute(sa.select(Device.model).distinct()).scalars())
    if ask.count and ask.model and not devices:
        raise NeverFits(
            f"No node has a device of model {ask.model!r}. There is: {', '.join(models) or 'no device at all'}.",
            hint="lease offers shows what there is.",
        )
    if ask.count > max(devices.values(), default=0):
        of_model = f" {ask.model}" if ask.model else ""
        most = max(devices.values(), default=0)
        raise NeverFits(
            f"No node has {ask.count}{of_model} devices; the largest has {most}."
            if most
            else f"No node has a{of_model} device that can be leased.",
            hint="lease offers shows what there is." if most else "Ask without --gpu for a lease on CPUs.",
        )
    raise NeverFits(
        f"No single node has {ask} devices with {cpus_millis / 1000:g} CPUs and {format_size(memory_bytes)} together.",
        hint="lease offers shows what each has.",
    )


def _devices(session: Session, model: str | None) -> dict[UUID, int]:
    """Whole devices a node has, of the model if one is named, lost and faulty ones included: they may come back."""
    statement = (
        sa.select(Device.node_id, sa.func.count())
        .join(DeviceUsage)
        .where(DeviceUsage.share == 1000, Device.health != DeviceHealth.RETIRED)
        .group_by(Device.node_id)
    )
    if model is not None:
        statement = statement.where(Device.model.icontains(model, autoescape=True))
    return dict(session.execute(statement).all())
