"""Stage: reservations end, are given back when nobody came, alarm when they are kept waiting, and leave broken devices.

Any number of schedulers may do so at once: each decides under the row's lock, and binds devices under the calendar's.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import Sessions, now
from leasing.model import Allocation, Device, Lease, Node, Reservation, ReservedDevice, Run, User
from leasing.service import calendar, reservations
from leasing.service.calendar import LIVE, Choice, Need
from leasing.settings.scheduler import SchedulerSettings
from leasing.states import LeaseState, ReservationState
from leasing.units import format_duration

log = logging.getLogger(__name__)
ACTOR = "reconciler"
BROKEN = "not all of its devices can be used: "
"""How the message of a reservation begins whose devices cannot be replaced."""


def run_once(sessions: Sessions, settings: SchedulerSettings) -> None:
    """Each kind of trouble in transactions of its own."""
    with sessions.begin() as session:
        _end(session, now(session), timedelta(seconds=settings.reservation_grace_seconds))
    with sessions.begin() as session:
        _watch(session, now(session), timedelta(seconds=settings.stop_grace_seconds))
    with sessions() as session:
        moment = now(session)
        found = session.execute(sa.select(Reservation).where(*_live(moment))).scalars().all()
        state = _bound(session, found)
        ids = [one.id for one in found if state[one.id].lost(one) or one.message.startswith(BROKEN)]
    for reservation_id in ids:
        with sessions.begin() as session:
            calendar.lock_to_book(session)
            for reservation in _locked(session, Reservation.id == reservation_id, *_live(moment)):
                _mend(session, reservation, now(session))


def _live(moment: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return Reservation.state.in_(LIVE), Reservation.ends_at > moment


def _locked(session: Session, *conditions: sa.ColumnElement[bool]) -> Sequence[Reservation]:
    """Those that nobody else is changing just now."""
    return (
        session.execute(
            sa.select(Reservation)
            .where(*conditions)
            .order_by(Reservation.id)
            .with_for_update(key_share=True, skip_locked=True)
            .execution_options(populate_existing=True)
        )
        .scalars()
        .all()
    )


def _end(session: Session, moment: datetime, grace: timedelta) -> None:
    """Those whose time is over, and those under which nobody has asked for a lease within the grace."""
    for one in _locked(session, Reservation.state.in_(LIVE), Reservation.ends_at <= moment):
        if one.state == ReservationState.USED:
            message = f"reservation {one.name} is over"
            reservations.finish(session, one, ReservationState.OVER, message, actor=ACTOR)
        else:
            _missed(session, one)
    came = sa.exists().where(Lease.reservation_id == Reservation.id, Lease.state != LeaseState.ENDED)
    for one in _locked(
        session, Reservation.state == ReservationState.BOOKED, Reservation.starts_at <= moment - grace, ~came
    ):
        _missed(session, one)


def _missed(session: Session, one: Reservation) -> None:
    message = f"nobody came for reservation {one.name}, and its devices were given back"
    reservations.finish(session, one, ReservationState.MISSED, message, actor=ACTOR)


def _watch(session: Session, moment: datetime, slack: timedelta) -> None:
    """Whether those that have begun have their devices; a lease that ends just then is given the time to stop."""
    begun = _locked(session, *_live(moment), Reservation.starts_at <= moment - slack)
    holders: dict[UUID, list[str]] = defaultdict(list)
    rows = session.execute(
        sa.select(ReservedDevice.reservation_id, Device.index, Lease.name, User.name)
        .join(Reservation, Reservation.id == ReservedDevice.reservation_id)
        .join(Device, Device.id == ReservedDevice.device_id)
        .join(Allocation, sa.and_(Allocation.device_id == Device.id, Allocation.released_at.is_(None)))
        .join(Run, Run.id == Allocation.run_id)
        .join(Lease, Lease.id == Run.lease_id)
        .join(User, User.id == Lease.owner_id)
        .where(
            ReservedDevice.reservation_id.in_([one.id for one in begun]),
            ReservedDevice.live,
            Lease.reservation_id.is_distinct_from(Reservation.id),
        )
        .order_by(Device.index, Lease.arrival)
    )
    for reservation_id, index, lease, owner in rows:
        holders[reservation_id].append(f"GPU {index} is still held by lease {lease} of {owner}")
    for one in begun:
        if holders[one.id] and one.late_since is None:
            one.late_since = moment
            message = f"reservation {one.name} waits for its devices: {', '.join(holders[one.id])}"
            log.warning("reservation late name=%s holders=%s", one.name, holders[one.id])
            reservations.record(session, one, "late", message, actor=ACTOR)
        elif not holders[one.id] and one.late_since is not None:
            waited = format_duration((moment - one.late_since).total_seconds())
            one.late_since = None
            message = f"reservation {one.name} has its devices after {waited}"
            reservations.record(session, one, "ready", message, actor=ACTOR)


@dataclass
class _Bound:
    """What a reservation has: devices that can be used, and sentences about those that cannot."""

    kept: list[Device]
    bad: list[tuple[Device, str]]

    def lost(self, reservation: Reservation) -> int:
        """How many devices have to be found anew."""
        return reservation.gpu_count - len(self.kept)


def _bound(session: Session, found: Sequence[Reservation]) -> dict[UUID, _Bound]:
    """By reservation. A device that a lease under it holds now is left to that lease, whatever is wrong with it."""
    state = {one.id: _Bound([], []) for one in found}
    own = (
        sa.exists()
        .where(
            Allocation.device_id == Device.id,
            Allocation.released_at.is_(None),
            Run.id == Allocation.run_id,
            Lease.id == Run.lease_id,
            Lease.reservation_id == ReservedDevice.reservation_id,
        )
        .correlate(Device, ReservedDevice)
    )
    rows = session.execute(
        sa.select(ReservedDevice.reservation_id, Device, Node, own)
        .join(Device, Device.id == ReservedDevice.device_id)
        .join(Node, Node.id == Device.node_id)
        .where(ReservedDevice.reservation_id.in_(state), ReservedDevice.live)
        .order_by(Device.index)
        .execution_options(populate_existing=True)
    )
    for reservation_id, device, node, in_use in rows:
        why = calendar.out_of_use(device)
        gone = calendar.closed(node)
        if in_use or (why is None and gone is None):
            state[reservation_id].kept.append(device)
        else:
            said = f"GPU {device.index} of {node.name} is {why}" if why else f"node {node.name} is {gone}"
            state[reservation_id].bad.append((device, said))
    return state


def _mend(session: Session, reservation: Reservation, moment: datetime) -> None:
    """Other devices for those that cannot be used: on the same node, or, while nobody uses it, all on another."""
    bound = _bound(session, [reservation])[reservation.id]
    lost = bound.lost(reservation)
    if not lost:
        if reservation.message.startswith(BROKEN):
            reservation.message = ""
        return
    why = ", ".join(dict.fromkeys(said for _, said in bound.bad)) or "a device is no longer there"
    places = calendar.load(session, now=moment, besides=reservation.id)
    from_ = max(moment, reservation.starts_at)
    choice = _same_node(places, reservation, bound.kept, lost, from_)
    moving = [device for device, _ in bound.bad]
    if choice is None and not _in_use(session, reservation):
        elsewhere = [place for place in places if place.node_id != reservation.node_id]
        need = Need(reservation.gpu, reservation.cpus_millis, reservation.memory_bytes)
        choice = calendar.choose(elsewhere, need, from_, reservation.ends_at)
        moving += bound.kept
    if choice is None:
        message = f"{BROKEN}{why}, and no other is free for all of its time"
        if reservation.message != message:
            reservation.message = message
            log.warning("reservation broken name=%s why=%s", reservation.name, why)
            told = f"of reservation {reservation.name} {message}"
            reservations.record(session, reservation, "broken", told, actor=ACTOR)
        return
    session.execute(
        sa.delete(ReservedDevice).where(
            ReservedDevice.reservation_id == reservation.id,
            ReservedDevice.device_id.in_([device.id for device in moving]),
        )
    )
    reservation.node_id = choice.place.node_id
    reservations.bind(session, reservation, choice, from_=from_)
    devices = ", ".join(f"GPU {device.index}" for device in choice.devices)
    reservation.message = f"moved to {devices} of {choice.place.name}: {why}"
    told = f"reservation {reservation.name} was {reservation.message}"
    reservations.record(session, reservation, "moved", told, actor=ACTOR)


def _same_node(
    places: Sequence[calendar.Place],
    reservation: Reservation,
    kept: Sequence[Device],
    lost: int,
    from_: datetime,
) -> Choice | None:
    place = next(place for place in places if place.node_id == reservation.node_id)
    if place.closed:
        return None
    mine = {device.id for device in kept}
    free = [
        device for device in place.free(reservation.gpu, from_, reservation.ends_at) if device.id not in mine
    ]
    return Choice(place, place.best(free, lost, kept)) if len(free) >= lost else None


def _in_use(session: Session, reservation: Reservation) -> bool:
    """Whether a lease has its place under it."""
    return session.execute(
        sa.select(
            sa.exists().where(
                Lease.reservation_id == reservation.id, Run.lease_id == Lease.id, Run.released_at.is_(None)
            )
        )
    ).scalar_one()
