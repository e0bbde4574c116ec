"""Pools of containers that wait for leases: what admins want, and what is there."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import Invalid, NotFound
from leasing.model import Node, Warm, WarmPool
from leasing.schema.warm import WarmOut, WarmPage, WarmPoolIn, WarmPoolOut
from leasing.service import events
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import WarmRole, WarmState
from leasing.units import format_size, parse_cpus, parse_size

KIND = "warm.changed"
"""The event that wakes whoever keeps them."""


def page(session: Session) -> WarmPage:
    """Everything that is ready, in the making or taken, and what is wanted of containers."""
    counted = session.execute(
        sa.select(Node.name, Warm.role, Warm.state, Warm.image, sa.func.count())
        .join(Node, Node.id == Warm.node_id)
        .group_by(Node.name, Warm.role, Warm.state, Warm.image)
        .order_by(Node.name, Warm.role, Warm.image, Warm.state)
    )
    pools = session.execute(
        sa.select(WarmPool, Node.name).outerjoin(Node, Node.id == WarmPool.node_id).order_by(WarmPool.image)
    ).all()
    return WarmPage(
        items=[
            WarmOut(node=node, role=role, state=state, image=image, count=count)
            for node, role, state, image, count in counted
        ],
        pools=[_out(session, pool, node) for pool, node in pools],
    )


def put(session: Session, ask: WarmPoolIn, *, principal: Principal, limits: LimitSettings) -> WarmPoolOut:
    """Make a pool, or change the one for the same image, node and model. Raises `Invalid`, `NotFound`."""
    cpus = parse_cpus(ask.cpus) if ask.cpus is not None else limits.default_cpus_millis
    memory = parse_size(ask.memory) if ask.memory is not None else limits.default_memory_bytes
    if memory < limits.min_memory_bytes:
        raise Invalid(
            f"{format_size(memory)} of memory is less than the {format_size(limits.min_memory_bytes)} that a container "
            "needs.",
            hint=f"Leave --memory out for {format_size(limits.default_memory_bytes)}.",
        )
    node_id = _node(session, ask.node)
    pool = session.execute(_same(ask.image, node_id, ask.gpu).with_for_update()).scalar_one_or_none()
    if pool is None:
        pool = WarmPool(image=ask.image, node_id=node_id, gpu_model=ask.gpu)
        session.add(pool)
    pool.count, pool.cpus_millis, pool.memory_bytes = ask.count, cpus, memory
    session.flush()
    where = f"on {ask.node}" if ask.node else "on every node"
    model = f" with one {ask.gpu} each" if ask.gpu else ""
    message = f"{principal.name} had {ask.count} of {ask.image}{model} kept warm {where}"
    events.record(session, KIND, message, actor=principal.actor, node_id=node_id, data=ask.model_dump())
    return _out(session, pool, ask.node)


def remove(session: Session, image: str, node: str | None, gpu: str | None, *, principal: Principal) -> None:
    """Want it no more: what waits goes, what leases have stays. Raises `NotFound`."""
    node_id = _node(session, node)
    pool = session.execute(_same(image, node_id, gpu).with_for_update()).scalar_one_or_none()
    if pool is None:
        raise NotFound(
            f"Nothing of {image[:60]!r} is kept warm {f'on {node}' if node else 'on every node'}.",
            hint="lease admin warm ls",
        )
    session.delete(pool)
    message = f"{principal.name} had {image} kept warm no more"
    events.record(session, KIND, message, actor=principal.actor, node_id=node_id)


def _node(session: Session, name: str | None) -> UUID | None:
    if name is None:
        return None
    found = session.execute(sa.select(Node.id).where(Node.name == name)).scalar_one_or_none()
    if found is None:
        raise NotFound(f"There is no node {name[:60]!r}.", hint="lease admin nodes ls")
    return found


def _same(image: str, node_id: UUID | None, gpu: str | None) -> sa.Select[Any]:
    return sa.select(WarmPool).where(
        WarmPool.image == image,
        WarmPool.node_id.is_not_distinct_from(node_id),
        WarmPool.gpu_model.is_not_distinct_from(gpu),
    )


def _out(session: Session, pool: WarmPool, node: str | None) -> WarmPoolOut:
    bound = Warm.device_id.is_not(None) if pool.gpu_model else Warm.device_id.is_(None)
    ready = session.execute(
        sa.select(sa.func.count()).where(
            Warm.role == WarmRole.WARM, Warm.state == WarmState.READY, Warm.image == pool.image, bound,
            Warm.cpus_millis == pool.cpus_millis, Warm.memory_bytes == pool.memory_bytes,
            Warm.node_id == sa.func.coalesce(pool.node_id, Warm.node_id),
        )
    ).scalar_one()  # fmt: skip
    return WarmPoolOut(
        image=pool.image, node=node, gpu=pool.gpu_model, count=pool.count, cpus=pool.cpus_millis / 1000,
        memory_bytes=pool.memory_bytes, ready=ready,
    )  # fmt: skip
