"""Devices for a later range of time: book them, lease under them, give them back."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from leasing import names
from leasing.errors import Conflict, Invalid, NameTaken, NotAllowed, NotFound, NotFree, OverQuota
from leasing.gpus import GpuAsk, parse_gpu
from leasing.model import Device, Lease, Member, Node, Quota, Reservation, ReservedDevice
from leasing.schema.reservation import ReservationRequest
from leasing.service import calendar, events, fitting, projects, quotas
from leasing.service.calendar import LIVE, Choice, Need
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import Priority, ReservationState
from leasing.units import format_duration, format_size, parse_cpus, parse_duration, parse_size

SLACK = timedelta(minutes=1)
"""A start that lies so little back was meant as now: clocks differ, and typing takes time."""
TRIES = 5


def book(
    session: Session, ask: ReservationRequest, *, principal: Principal, limits: LimitSettings, now: datetime
) -> Reservation:
    """Devices of one node for all of the range, best connected first; nobody else can have them then.

    Raises `Invalid`, `OverQuota`, `NeverFits`, `NameTaken`, and `NotFree` with the next time at which it would work:
    roll the transaction back then.
    """
    need = _need(ask, limits)
    starts_at, ends_at = _range(ask, limits, now)
    project = projects.to_lease_in(session, ask.project, Priority.LOW, principal=principal)
    fitting.check_fits_somewhere(session, need.gpu, need.cpus_millis, need.memory_bytes)
    _check_node(session, ask.node)
    name = names.lease_name(ask.name) if ask.name is not None else names.made_up()
    calendar.lock_to_book(session)
    _check_ceiling(session, principal, need.gpu, starts_at, ends_at, limits)
    for _ in range(TRIES):
        places = calendar.load(session, now=now)
        choice = calendar.choose(places, need, starts_at, ends_at)
        if choice is None:
            length = ends_at - starts_at
            latest = now + timedelta(seconds=limits.max_reservation_ahead_seconds)
            later = calendar.next_start(places, need, starts_at, length, latest)
            raise _not_free(need, name, starts_at, ends_at, later)
        reservation = Reservation(
            name=name,
            owner_id=principal.user_id,
            project_id=project.id,
            node_id=choice.place.node_id,
            gpu_count=need.gpu.count,
            gpu_model=need.gpu.model,
            cpus_millis=need.cpus_millis,
            memory_bytes=need.memory_bytes,
            starts_at=starts_at,
            ends_at=ends_at,
        )
        if _write(session, reservation, choice):
            devices = ", ".join(f"GPU {device.index}" for device in choice.devices)
            message = (
                f"{principal.name} reserved {devices} of {choice.place.name} from {calendar.said(starts_at)} "
                f"to {calendar.said(ends_at)}"
            )
            record(session, reservation, "booked", message, actor=principal.actor)
            return reservation
    raise Conflict("Others are booking the same devices just now.", hint="Try again: lease reserve add …")


def find(session: Session, ref: str, *, lock: bool = False) -> Reservation:
    """The reservation with that id, or the live one of that name, or the newest other one of that name.

    Everybody may see it. Raises `NotFound`. `lock` holds the row for the transaction.
    """
    try:
        condition = Reservation.id == UUID(ref)
    except ValueError:
        condition = Reservation.name == ref
    statement = (
        sa.select(Reservation)
        .where(condition)
        .order_by(Reservation.state.in_(LIVE).desc(), Reservation.created_at.desc())
        .limit(1)
    )
    if lock:
        statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    found = session.execute(statement).scalar_one_or_none()
    if found is None:
        raise NotFound(f"There is no reservation {ref[:60]!r}.", hint="lease reserve shows them.")
    return found


def cancel(session: Session, reservation: Reservation, *, principal: Principal) -> None:
    """Give the devices back. Idempotent; leases under it go on to their own deadlines. The caller holds the row's lock.

    Raises `NotAllowed` for who neither booked it nor is an admin.
    """
    if reservation.owner_id != principal.user_id and not principal.admin:
        raise NotAllowed(
            f"Reservation {reservation.name!r} is somebody else's.", hint="lease reserve shows whose."
        )
    if reservation.state in LIVE:
        finish(
            session,
            reservation,
            ReservationState.CANCELLED,
            f"{principal.name} cancelled reservation {reservation.name}",
            actor=principal.actor,
        )


def finish(
    session: Session, reservation: Reservation, state: ReservationState, message: str, *, actor: str
) -> None:
    """Its devices are anybody's again. The caller holds the row's lock."""
    reservation.state, reservation.late_since = state, None
    session.execute(
        sa.update(ReservedDevice).where(ReservedDevice.reservation_id == reservation.id).values(live=False)
    )
    record(session, reservation, state, message, actor=actor)


def to_use(session: Session, name: str, lease: Lease, *, principal: Principal, now: datetime) -> Reservation:
    """The reservation, for a lease that asks so much.

    Raises `NotFound`, `NotAllowed` for who neither booked it nor may lease in its project as a member, `Conflict` when
    it is over, `Invalid` for more than it has or for other devices.
    """
    found = find(session, name)
    if not (found.owner_id == principal.user_id or principal.admin or _member(session, found, principal)):
        raise NotAllowed(
            f"{principal.name} may not lease under reservation {found.name!r}.",
            hint="Who booked it may, and members of its project; lease reserve shows whose it is.",
        )
    if found.state not in LIVE or found.ends_at <= now:
        raise Conflict(f"Reservation {found.name!r} is {_past(found)}.", hint="Those to come: lease reserve")
    gpu = lease.gpu
    devices = session.execute(
        sa.select(Device.model, Device.parent_uuid)
        .join(ReservedDevice, ReservedDevice.device_id == Device.id)
        .where(ReservedDevice.reservation_id == found.id, ReservedDevice.live)
    ).all()
    fitting = sum(gpu.takes(model, instance=parent is not None) for model, parent in devices)
    if gpu.count == 0 or gpu.count > fitting:
        models = ", ".join(sorted({model for model, _ in devices}))
        asked = f"{gpu} GPUs are asked for" if gpu.count else "No GPU is asked for"
        raise Invalid(
            f"{asked}; reservation {found.name!r} has {len(devices)} ({models}).",
            hint=f"Ask with --gpu {len(devices)}.",
        )
    if lease.cpus_millis > found.cpus_millis or lease.memory_bytes > found.memory_bytes:
        has = f"{found.cpus_millis / 1000:g} CPUs and {format_size(found.memory_bytes)} of memory"
        asked = f"{lease.cpus_millis / 1000:g} CPUs and {format_size(lease.memory_bytes)}"
        raise Invalid(
            f"{asked} of memory are asked for; reservation {found.name!r} has {has}.",
            hint=f"Ask with --cpus {found.cpus_millis / 1000:g} --memory {format_size(found.memory_bytes)} at most.",
        )
    return found


def record(session: Session, reservation: Reservation, what: str, message: str, *, actor: str) -> None:
    """An event of a reservation: `reservation.WHAT`."""
    session.flush()
    events.record(
        session,
        f"reservation.{what}",
        message,
        actor=actor,
        node_id=reservation.node_id,
        data={"reservation": reservation.name, "id": str(reservation.id)},
    )


def _need(ask: ReservationRequest, limits: LimitSettings) -> Need:
    gpu = parse_gpu(ask.gpu)
    if gpu.count == 0 or not gpu.whole:
        raise Invalid(f"A reservation is of whole devices, not of {gpu}.", hint="Ask for --gpu 1 or A100:2.")
    cpus = parse_cpus(ask.cpus) if ask.cpus is not None else limits.default_cpus_millis
    memory = parse_size(ask.memory) if ask.memory is not None else limits.default_memory_bytes
    return Need(gpu, cpus, memory, ask.node)


def _range(ask: ReservationRequest, limits: LimitSettings, now: datetime) -> tuple[datetime, datetime]:
    starts_at = ask.starts_at or now
    if starts_at < now - SLACK:
        raise Invalid(f"{calendar.said(starts_at)} is in the past.", hint="Without --from it begins now.")
    starts_at = max(starts_at, now)
    ahead = timedelta(seconds=limits.max_reservation_ahead_seconds)
    if starts_at > now + ahead:
        raise Invalid(
            f"{calendar.said(starts_at)} is too far ahead: the limit is {format_duration(ahead.total_seconds())}.",
            hint=f"Begin by {calendar.stamp(now + ahead)}.",
        )
    ends_at = ask.until or starts_at + timedelta(seconds=parse_duration(ask.ttl or ""))
    if ends_at <= starts_at:
        raise Invalid(
            f"{calendar.said(ends_at)} is not after the start, {calendar.said(starts_at)}.",
            hint="Give a later end, or --for 4h.",
        )
    if (ends_at - starts_at).total_seconds() > limits.max_reservation_seconds:
        most = format_duration(limits.max_reservation_seconds)
        raise Invalid(
            f"{format_duration((ends_at - starts_at).total_seconds())} is longer than devices may be reserved "
            f"for: the limit is {most}.",
            hint=f"Ask --for {most} at most.",
        )
    return starts_at, ends_at


def _check_node(session: Session, name: str | None) -> None:
    if name is None:
        return
    if session.execute(sa.select(Node.id).where(Node.name == name)).scalar_one_or_none() is None:
        raise NotFound(f"There is no node {name[:60]!r}.", hint="lease offers shows them.")


def _check_ceiling(
    session: Session, principal: Principal, gpu: GpuAsk, starts_at: datetime, ends_at: datetime,
    limits: LimitSettings,
) -> None:  # fmt: skip
    """Raises `OverQuota` for more devices reserved at the same time than the user may have."""
    own = session.execute(sa.select(Quota).where(Quota.user_id == principal.user_id)).scalar_one_or_none()
    most = quotas.of_user(principal.name, principal.user_id, own, limits).max_devices
    reserved = session.execute(
        sa.select(sa.func.coalesce(sa.func.sum(Reservation.gpu_count), 0)).where(
            Reservation.owner_id == principal.user_id,
            Reservation.state.in_(LIVE),
            Reservation.starts_at < ends_at,
            Reservation.ends_at > starts_at,
        )
    ).scalar_one()
    if most is not None and reserved + gpu.count > most:
        raise OverQuota(
            f"That would be {reserved + gpu.count} devices reserved for {principal.name} at the same time; "
            f"the limit is {most:g}.",
            hint="Cancel another (lease reserve), ask for fewer, or ask an admin for a higher limit.",
        )


def _not_free(
    need: Need, name: str, starts_at: datetime, ends_at: datetime, later: datetime | None
) -> NotFree:
    what = f"{need.gpu} GPU{'s' if need.gpu.count > 1 else ''}"
    on = f"node {need.node_name}" if need.node_name else "any one node"
    cpus = f"{need.cpus_millis / 1000:g} CPU{'' if need.cpus_millis == 1000 else 's'}"
    with_ = f"{cpus} and {format_size(need.memory_bytes)} of memory"
    problem = f"{what} with {with_} are not free on {on} from {calendar.said(starts_at)} to {calendar.said(ends_at)}"
    if later is None:
        return NotFree(
            f"{problem}, nor at any later time that may be booked.",
            hint="What is taken when: lease reserve. Ask for fewer, or for less time.",
        )
    node = f" --node {need.node_name}" if need.node_name else ""
    return NotFree(
        f"{problem}; they are from {calendar.said(later)} on.",
        hint=f"lease reserve add {name} --gpu {need.gpu} --cpus {need.cpus_millis / 1000:g} "
        f"--memory {need.memory_bytes // 2**20}M{node} --from {calendar.stamp(later)} "
        f"--for {format_duration((ends_at - starts_at).total_seconds())}",
    )


def _write(session: Session, reservation: Reservation, choice: Choice) -> bool:
    """Whether it stands. False when the database says that one of the devices is somebody's for a part of the time."""
    try:
        with session.begin_nested():
            session.add(reservation)
            session.flush()
            bind(session, reservation, choice, from_=reservation.starts_at)
    except IntegrityError as error:
        if "uq_reservation_live_name" in str(error.orig):
            raise NameTaken(
                f"There is a live reservation called {reservation.name!r} already.",
                hint=f"Choose another name, or: lease reserve cancel {reservation.name}",
            ) from error
        if "ex_reserved_device_during" in str(error.orig):
            return False
        raise
    return True


def bind(session: Session, reservation: Reservation, choice: Choice, *, from_: datetime) -> None:
    """These devices are the reservation's too, from then to its end. The database refuses what is somebody else's."""
    session.add_all(
        ReservedDevice(
            reservation_id=reservation.id,
            device_id=device.id,
            device_number=device.number,
            during=Range(from_, reservation.ends_at),
        )
        for device in sorted(choice.devices, key=lambda one: one.id)
    )
    session.flush()


def _member(session: Session, reservation: Reservation, principal: Principal) -> bool:
    role = session.execute(
        sa.select(Member.role).where(
            Member.project_id == reservation.project_id, Member.user_id == principal.user_id
        )
    ).scalar_one_or_none()
    return role in projects.MAY_LEASE


def _past(reservation: Reservation) -> str:
    return {
        ReservationState.CANCELLED: "cancelled",
        ReservationState.MISSED: "given back: nobody came within the grace",
    }.get(ReservationState(reservation.state), f"over since {calendar.said(reservation.ends_at)}")
