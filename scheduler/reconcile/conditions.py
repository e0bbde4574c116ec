"""Stage: how is each device, apart from what is leased of it? Whatever has changed closes a span and opens the next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.accounting import Condition
from leasing.model import (
    Counting,
    Device,
    DeviceSpan,
    DeviceUsage,
    Node,
    Reservation,
    ReservedDevice,
    Warm,
)
from leasing.service import cluster, handover
from leasing.states import DeviceHealth, NodeIntent, ReservationState, WarmState

MISSED = timedelta(minutes=2)
"""Nobody has looked for so long: how devices were meanwhile is unknown."""
HOLDS = (ReservationState.BOOKED, ReservationState.USED)
BOUND = (WarmState.MAKING, WarmState.READY)


@dataclass(frozen=True)
class Seen:
    """A device as its rows have it now."""

    device: Device
    node_intent: str
    released_at: datetime | None
    reserved: bool
    warm: bool


def judge(seen: Seen, now: datetime) -> tuple[Condition, datetime | None]:
    """Its condition, and since when, where a row tells. What an admin or the platform decided holds though it is
    silent; what is on a device right after a lease is a matter of its handover."""
    device = seen.device
    silent = device.sampled_at is None or now - device.sampled_at > cluster.STALE
    cleaning = handover.cleaning(device, seen.released_at)
    rules: tuple[tuple[bool, Condition, datetime | None], ...] = (
        (device.health == DeviceHealth.RETIRED or device.mig_enabled, Condition.ABSENT, None),
        (device.intent != NodeIntent.OPEN or seen.node_intent != NodeIntent.OPEN, Condition.CORDONED, None),
        (device.quarantined_since is not None, Condition.QUARANTINED, device.quarantined_since),
        (silent, Condition.UNKNOWN, device.sampled_at),
        (device.health != DeviceHealth.OK, Condition.BROKEN, None),
        (device.foreign_since is not None and not cleaning, Condition.FOREIGN, device.foreign_since),
        (cleaning, Condition.CLEANING, seen.released_at),
        (seen.reserved, Condition.RESERVED, None),
        (seen.warm, Condition.WARM, None),
    )
    fits = ((condition, since) for holds, condition, since in rules if holds)
    return next(fits, (Condition.FREE, device.cleared_at))


def look(session: Session, counting: dict[UUID, Counting], *, now: datetime) -> int:
    """Compare the devices of these nodes, whose rows are locked, with their open spans; how many changed."""
    ahead = [one.node_id for one in counting.values() if _ahead(one, now)]
    _forget_to_come(session, ahead, now)
    nodes = [one.node_id for one in counting.values() if one.looked_at is None or one.looked_at < now] + ahead
    changes: list[dict[str, Any]] = []
    for seen, span in _load(session, nodes, now):
        far = counting[seen.device.node_id]
        changes += _compare(seen, span, far, now)
    if changes:
        session.flush()
        session.execute(insert(DeviceSpan), changes)
    for node_id in nodes:
        counting[node_id].looked_at = now
    return len(changes)


def _ahead(far: Counting, now: datetime) -> bool:
    """It was looked at by a clock that was ahead by far, and was set back."""
    return far.looked_at is not None and far.looked_at - now > MISSED


def _forget_to_come(session: Session, nodes: list[UUID], now: datetime) -> None:
    """What a clock that was ahead said of their devices is yet to come."""
    if not nodes:
        return
    theirs = DeviceSpan.device_id.in_(sa.select(Device.id).where(Device.node_id.in_(nodes)))
    session.execute(sa.delete(DeviceSpan).where(theirs, DeviceSpan.since > now))
    session.execute(sa.update(DeviceSpan).where(theirs, DeviceSpan.until > now).values(until=now))


def _compare(seen: Seen, span: DeviceSpan | None, far: Counting, now: datetime) -> list[dict[str, Any]]:
    """The spans to open; the one that was open is closed."""
    condition, since = judge(seen, now)
    row = {"device_id": seen.device.id, "condition": condition.value, "since": now, "until": None}
    if span is None:
        new = now - seen.device.created_at <= MISSED and not _ahead(far, now)
        return [row | {"since": min(seen.device.created_at, now) if new else now}]
    if far.looked_at is not None and now - far.looked_at > MISSED and span.condition != Condition.ABSENT:
        span.until = max(span.since, far.looked_at)
        lost = {"condition": Condition.UNKNOWN.value, "since": span.until, "until": max(span.until, now)}
        return [row | lost, row | {"since": max(span.until, now)}]
    if span.condition == condition:
        return []
    at = max(span.since, far.sealed_until, min(now, since or now))
    if condition is Condition.UNKNOWN or far.looked_at is None:
        span.until = at
    else:
        span.until = max(
            at, min(far.looked_at, now)
        )  # it was looked at then, and it was as the open span says
    return [row | {"since": span.until}]


def _load(session: Session, nodes: list[UUID], now: datetime) -> list[tuple[Seen, DeviceSpan | None]]:
    reserved = (
        sa.exists()
        .where(ReservedDevice.device_id == Device.id, ReservedDevice.live)
        .where(ReservedDevice.during.contains(now), ReservedDevice.reservation_id == Reservation.id)
        .where(Reservation.state.in_(HOLDS))
    )
    warm = sa.exists().where(Warm.device_id == Device.id, Warm.state.in_(BOUND))
    rows = session.execute(
        sa.select(Device, Node.intent, DeviceUsage.released_at, reserved, warm, DeviceSpan)
        .join(Node, Node.id == Device.node_id)
        .join(DeviceUsage, DeviceUsage.device_id == Device.id)
        .outerjoin(DeviceSpan, sa.and_(DeviceSpan.device_id == Device.id, DeviceSpan.until.is_(None)))
        .where(Device.node_id.in_(nodes))
        .execution_options(populate_existing=True)
    )
    return [
        (Seen(device, intent, released_at, is_reserved, is_warm), span)
        for device, intent, released_at, is_reserved, is_warm, span in rows
    ]
