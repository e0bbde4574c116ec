"""What any node could ever give: an ask that none could is refused at once, with what there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import NeverFits
from leasing.gpus import WHOLE, GpuAsk
from leasing.model import Device, DeviceUsage, Node, NodeUsage
from leasing.states import DeviceHealth
from leasing.units import format_size


def share_of_largest(session: Session, ask: GpuAsk) -> int:
    """The share that the ask is of the largest device that would do, in thousandths; all of one if none would."""
    if ask.memory_bytes is None:
        return ask.share
    found = [kind for kind in _kinds(session) if ask.takes(kind.model, instance=kind.instance)]
    return ask.share_of(max((kind.memory_bytes for kind in found), default=0)) or WHOLE


def check_fits_somewhere(
    session: Session,
    ask: GpuAsk,
    cpus_millis: int,
    memory_bytes: int,
    *,
    node: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> None:
    """Raises `NeverFits` if no node is large enough, busy or not; says what the largest ones have.

    Only the node of that name counts, and only nodes with all of these labels.
    """
    named, such = _nodes(session, node, labels or {})
    nodes = [(one.id, one.cpus_millis, one.memory_bytes) for one in named if one.cpus_millis]
    if not nodes:
        raise NeverFits(
            f"No node{such} has reported what it has yet.",
            hint="Try again in a few seconds; lease admin nodes ls shows them.",
        )
    ids = {one.id for one in named}
    kinds = [kind for kind in _kinds(session) if kind.node_id in ids] if ask.count else []
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
            f"No node{such} has {cpus_millis / 1000:g} CPUs; the largest has {most_cpus / 1000:g}.",
            hint=f"Ask for --cpus {most_cpus / 1000:g} or fewer.",
        )
    if memory_bytes > most_memory:
        raise NeverFits(
            f"No node{such} has {format_size(memory_bytes)} of memory to lease; "
            f"the largest has {format_size(most_memory)}.",
            hint=f"Ask for --memory {most_memory // 2**20}M or less.",
        )
    if ask.count:
        _check_devices(ask, kinds, found, max(devices.values(), default=0), such)
    raise NeverFits(
        f"No single node{such} has {ask} devices with {cpus_millis / 1000:g} CPUs and "
        f"{format_size(memory_bytes)} together.",
        hint="lease offers shows what each has.",
    )


def _nodes(
    session: Session, name: str | None, labels: Mapping[str, str]
) -> tuple[list[sa.Row[UUID, str, dict[str, str], int, int]], str]:
    """Which nodes are meant, with what they have, and how to say so.

    Raises `NeverFits` if there is none, and names what there is.
    """
    nodes = session.execute(
        sa.select(Node.id, Node.name, Node.labels, NodeUsage.cpus_millis, NodeUsage.memory_bytes)
        .outerjoin(NodeUsage)
        .order_by(Node.name)
    ).all()
    meant = [one for one in nodes if name in (None, one.name)]
    if name is not None and not meant:
        there = ", ".join(one.name for one in nodes)
        raise NeverFits(
            f"There is no node {name[:60]!r}. There is: {there or 'none yet'}.",
            hint="Ask for one of these with --node, or for any without it.",
        )
    wanted = labels.items()
    found = [one for one in meant if wanted <= one.labels.items()]
    if labels and nodes and not found:
        said = ", ".join(f"{key}={value}" for key, value in sorted(wanted))
        there = ", ".join(sorted({f"{key}={value}" for one in meant for key, value in one.labels.items()}))
        raise NeverFits(
            f"{f'Node {name}' if name else 'No node'} has {'not ' if name else ''}the labels {said}. "
            f"There is: {there or 'no label at all'}.",
            hint="Ask for some of these with --label, or for any node without it.",
        )
    such = " with those labels" if labels else ""
    return found, f" called {name}{such}" if name is not None else such


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


def _check_devices(ask: GpuAsk, kinds: Sequence[_Kind], found: Sequence[_Kind], most: int, such: str) -> None:
    """Raises `NeverFits` if devices are what lacks: `found` are of the model asked for, `most` fit on one node."""
    if ask.model and not found:
        there = ", ".join(sorted({kind.model for kind in kinds}))
        raise NeverFits(
            f"No node{such} has a device of model {ask.model!r}. There is: {there or 'no device at all'}.",
            hint="lease offers shows what there is.",
        )
    of_model = f" {ask.model}" if ask.model else ""
    on = f" of a node{such}" if such else ""
    if ask.memory_bytes is not None and found and not most:
        largest = max(kind.memory_bytes for kind in found)
        raise NeverFits(
            f"No{of_model} device{on} has {format_size(ask.memory_bytes)} of memory; "
            f"the largest has {format_size(largest)}.",
            hint=f"Ask for --gpu {format_size(largest // 2**30 * 2**30)}B or less, or for whole devices.",
        )
    if ask.count > most:
        raise NeverFits(
            f"No node{such} has {ask.count}{of_model} devices; the largest has {most}."
            if most
            else f"No node{such} has a{of_model} device that can be leased.",
            hint="lease offers shows what there is." if most else "Ask without --gpu for a lease on CPUs.",
        )
