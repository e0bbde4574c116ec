"""The calendar as people see it: rows → wire models, a fixed number of statements for any range."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import Invalid
from leasing.model import Allocation, Device, Lease, Node, Project, Reservation, ReservedDevice, Run, User
from leasing.schema.reservation import HeldOut, ReservationOut, ReservationPage, ReservedDeviceOut
from leasing.service import calendar
from leasing.service.calendar import LIVE
from leasing.states import LeaseState, ReservationState

AHEAD = timedelta(days=7)
"""How much of the calendar is shown to who does not say."""


def page(
    session: Session, *, now: datetime, starts_at: datetime | None = None, ends_at: datetime | None = None
) -> ReservationPage:
    """The calendar of that range: by default the next days. Everybody sees all of it. Raises `Invalid`."""
    first = starts_at or now
    last = ends_at or first + AHEAD
    if last <= first:
        raise Invalid("The range ends before it begins.", hint="Give a later end.")
    found = (
        session.execute(
            sa.select(Reservation)
            .where(
                Reservation.state.in_((*LIVE, ReservationState.OVER)),
                Reservation.starts_at < last,
                Reservation.ends_at > first,
            )
            .order_by(Reservation.starts_at, Reservation.name)
        )
        .scalars()
        .all()
    )
    leases = [one for one in _held(session, now) if one.starts_at < last and one.ends_at > first]
    return ReservationPage(items=_outs(session, found), leases=leases)


def out(session: Session, reservation: Reservation) -> ReservationOut:
    """One reservation."""
    return _outs(session, [reservation])[0]


def _outs(session: Session, found: Sequence[Reservation]) -> list[ReservationOut]:
    ids = [one.id for one in found]
    about = {
        one_id: (owner, project, node)
        for one_id, owner, project, node in session.execute(
            sa.select(Reservation.id, User.name, Project.name, Node.name)
            .join(User, User.id == Reservation.owner_id)
            .join(Project, Project.id == Reservation.project_id)
            .join(Node, Node.id == Reservation.node_id)
            .where(Reservation.id.in_(ids))
        )
    }
    devices: dict[UUID, list[ReservedDeviceOut]] = defaultdict(list)
    for one_id, device in session.execute(
        sa.select(ReservedDevice.reservation_id, Device)
        .join(Device, Device.id == ReservedDevice.device_id)
        .where(ReservedDevice.reservation_id.in_(ids))
        .order_by(Device.index, Device.uuid)
    ):
        devices[one_id].append(_device(device))
    leases: dict[UUID, list[str]] = defaultdict(list)
    for lease in session.execute(
        sa.select(Lease)
        .where(Lease.reservation_id.in_(ids), Lease.state != LeaseState.ENDED)
        .order_by(Lease.arrival)
    ).scalars():
        if lease.reservation_id is not None:
            leases[lease.reservation_id].append(lease.name)
    return [
        ReservationOut(
            id=one.id,
            name=one.name,
            state=one.state,
            message=one.message,
            owner=about[one.id][0],
            project=about[one.id][1],
            node=about[one.id][2],
            gpu=str(one.gpu),
            cpus=one.cpus_millis / 1000,
            memory_bytes=one.memory_bytes,
            starts_at=one.starts_at,
            ends_at=one.ends_at,
            late_since=one.late_since,
            devices=devices[one.id],
            leases=leases[one.id],
            created_at=one.created_at,
        )
        for one in found
    ]


def _held(session: Session, now: datetime) -> list[HeldOut]:
    """Leases that have devices now."""
    devices: dict[UUID, list[ReservedDeviceOut]] = defaultdict(list)
    for run_id, device in session.execute(
        sa.select(Allocation.run_id, Device)
        .join(Device, Device.id == Allocation.device_id)
        .where(Allocation.released_at.is_(None))
        .order_by(Device.index, Device.uuid)
    ):
        devices[run_id].append(_device(device))
    rows = session.execute(
        sa.select(Run, Lease, User.name, Node.name, Reservation.name)
        .join(Lease, Lease.id == Run.lease_id)
        .join(User, User.id == Lease.owner_id)
        .join(Node, Node.id == Run.node_id)
        .outerjoin(Reservation, Reservation.id == Lease.reservation_id)
        .where(Run.released_at.is_(None))
        .order_by(Lease.arrival)
    )
    return [
        HeldOut(
            lease=lease.name,
            owner=owner,
            reservation=reservation,
            node=node,
            devices=devices[run.id],
            starts_at=run.placed_at,
            ends_at=max(now, calendar.deadline(lease, now)),
        )
        for run, lease, owner, node, reservation in rows
        if devices[run.id]
    ]


def _device(device: Device) -> ReservedDeviceOut:
    return ReservedDeviceOut(uuid=device.uuid, index=device.index, model=device.model)
