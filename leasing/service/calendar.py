"""The calendar: what of each node is reserved or leased, from when to when, and what is free for a whole range."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.gpus import WHOLE, GpuAsk
from leasing.model import (
    Allocation,
    Device,
    DeviceUsage,
    Lease,
    Node,
    NodeUsage,
    Reservation,
    ReservedDevice,
    Run,
)
from leasing.states import DeviceHealth, LeaseState, NodeHealth, NodeIntent, ReservationState

LIVE = (ReservationState.BOOKED, ReservationState.USED)
"""States in which a reservation holds its devices."""
_KEY = sa.func.hashtextextended("leasing-calendar", 0)


def lock_to_book(session: Session) -> None:
    """Until the transaction ends nobody else books, and no lease takes or keeps devices for longer.

    A booking weighs what leases hold, a lease weighs what is booked: neither may change under the other's eyes.
    """
    session.execute(sa.select(sa.func.pg_advisory_xact_lock(_KEY)))


def lock_to_hold(session: Session) -> None:
    """Until the transaction ends nothing is booked. Who gives leases devices or time needs it; many may at once."""
    session.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_KEY)))


@dataclass(frozen=True)
class Need:
    """Whole devices of one node, with CPUs and memory."""

    gpu: GpuAsk
    cpus_millis: int
    memory_bytes: int
    node_name: str | None = None


@dataclass(frozen=True)
class Span:
    """What a reservation or a lease has of a node, from a moment to another. `reservation_id` is None for a lease."""

    name: str
    starts_at: datetime
    ends_at: datetime
    device_ids: frozenset[UUID]
    cpus_millis: int
    memory_bytes: int
    reservation_id: UUID | None = None
    lease_id: UUID | None = None

    def overlaps(self, starts_at: datetime, ends_at: datetime) -> bool:
        return self.starts_at < ends_at and starts_at < self.ends_at


@dataclass(frozen=True)
class Place:
    """A node in the calendar. `devices` are those that may be reserved: first what nobody
    uses, then what a lease has now, whose holder may want to keep it, last what is in foreign use."""

    node_id: UUID
    name: str
    closed: bool
    cpus_millis: int
    memory_bytes: int
    devices: Sequence[Device]
    links: dict[frozenset[str], int]
    spans: Sequence[Span]

    def has_room(self, cpus_millis: int, memory_bytes: int, starts_at: datetime, ends_at: datetime) -> bool:
        """Whether so much is left beside everything else, at every moment of the range."""
        beside = [span for span in self.spans if span.overlaps(starts_at, ends_at)]
        moments = {starts_at, *(span.starts_at for span in beside if span.starts_at > starts_at)}
        for moment in moments:
            then = [span for span in beside if span.starts_at <= moment < span.ends_at]
            if (
                sum(span.cpus_millis for span in then) + cpus_millis > self.cpus_millis
                or sum(span.memory_bytes for span in then) + memory_bytes > self.memory_bytes
            ):
                return False
        return True

    def free(self, gpu: GpuAsk, starts_at: datetime, ends_at: datetime) -> list[Device]:
        """The devices that nobody has at any moment of the range and that the ask takes."""
        taken = {one for span in self.spans if span.overlaps(starts_at, ends_at) for one in span.device_ids}
        return [
            device
            for device in self.devices
            if device.id not in taken and gpu.takes(device.model, instance=device.parent_uuid is not None)
        ]

    def connected(self, group: Sequence[Device]) -> int:
        """How well they are connected in all."""
        return sum(self._link(one, other) for at, one in enumerate(group) for other in group[at + 1 :])

    def best(self, free: Sequence[Device], count: int, kept: Sequence[Device] = ()) -> list[Device]:
        """So many of them, well connected to each other and to those that are kept: grown from each one in turn."""
        groups = []
        for seed in free:
            group = [seed]
            rest = [device for device in free if device is not seed]
            while len(group) < count:
                near = max(rest, key=lambda one: sum(self._link(one, other) for other in (*kept, *group)))
                group.append(near)
                rest.remove(near)
            groups.append(group)
        return max(groups, key=lambda group: self.connected([*kept, *group]))

    def _link(self, one: Device, other: Device) -> int:
        return self.links.get(frozenset((one.uuid, other.uuid)), 0)


@dataclass(frozen=True)
class Choice:
    """These devices of that node."""

    place: Place
    devices: Sequence[Device]


def choose(places: Sequence[Place], need: Need, starts_at: datetime, ends_at: datetime) -> Choice | None:
    """Where the need is met for the whole range: best connected, then where the fewest devices are left over."""
    found: list[tuple[int, int, Choice]] = []
    for place in places:
        if place.closed or need.node_name not in (None, place.name):
            continue
        if not place.has_room(need.cpus_millis, need.memory_bytes, starts_at, ends_at):
            continue
        free = place.free(need.gpu, starts_at, ends_at)
        if len(free) >= need.gpu.count:
            group = place.best(free, need.gpu.count)
            found.append((-place.connected(group), len(free), Choice(place, group)))
    return min(found, key=lambda one: (*one[:2], one[2].place.name))[2] if found else None


def next_start(
    places: Sequence[Place], need: Need, after: datetime, length: timedelta, latest: datetime
) -> datetime | None:
    """The first whole minute from which the need is met for so long; None if there is none up to `latest`."""
    ends = sorted({_ceiling(span.ends_at) for place in places for span in place.spans})
    candidates = (moment for moment in ends if after < moment <= latest)
    return next((moment for moment in candidates if choose(places, need, moment, moment + length)), None)


def floor(moment: datetime) -> datetime:
    """The whole minute, which people can type."""
    return moment.replace(second=0, microsecond=0)


def _ceiling(moment: datetime) -> datetime:
    down = floor(moment)
    return down if down == moment else down + timedelta(minutes=1)


def out_of_use(device: Device) -> str | None:
    """Why a device cannot be reserved: what does not pass by itself within the hour. None if it can."""
    if device.intent != NodeIntent.OPEN:
        return "cordoned"
    if device.health != DeviceHealth.OK:
        return device.health
    if device.quarantined_since is not None:
        return "quarantined"
    if device.mig_enabled:
        return "leased through its MIG instances"
    return None


def closed(node: Node) -> str | None:
    """Why nothing of a node can be reserved; None if it can. Silence passes, and is no reason."""
    if node.health == NodeHealth.LOST:
        return node.health
    return node.intent if node.intent != NodeIntent.OPEN else None


def load(session: Session, *, now: datetime, besides: UUID | None = None) -> list[Place]:
    """The whole calendar from now on, without the reservation `besides`."""
    devices: dict[UUID, list[Device]] = defaultdict(list)
    for device in session.execute(
        sa.select(Device)
        .join(DeviceUsage)
        .where(DeviceUsage.share == WHOLE, Device.health != DeviceHealth.RETIRED)
        .order_by(Device.index, Device.uuid)
        .execution_options(populate_existing=True)
    ).scalars():
        if out_of_use(device) is None:
            devices[device.node_id].append(device)
    spans: dict[UUID, list[Span]] = defaultdict(list)
    for node_id, span in (*_reserved(session, now, besides), *_leased(session, now)):
        spans[node_id].append(span)
    leased = {
        device_id
        for found in spans.values()
        for span in found
        if span.lease_id is not None
        for device_id in span.device_ids
    }
    return [
        Place(
            node_id=node.id,
            name=node.name,
            closed=closed(node) is not None,
            cpus_millis=usage.cpus_millis,
            memory_bytes=usage.memory_bytes,
            devices=sorted(
                devices[node.id], key=lambda one: (one.foreign_since is not None, one.id in leased)
            ),
            links={frozenset((link["a"], link["b"])): int(link["rank"]) for link in node.topology},
            spans=spans[node.id],
        )
        for node, usage in session.execute(sa.select(Node, NodeUsage).join(NodeUsage).order_by(Node.name))
    ]


def _reserved(session: Session, now: datetime, besides: UUID | None) -> Iterator[tuple[UUID, Span]]:
    bound: dict[UUID, list[UUID]] = defaultdict(list)
    for reservation_id, device_id in session.execute(
        sa.select(ReservedDevice.reservation_id, ReservedDevice.device_id).where(ReservedDevice.live)
    ):
        bound[reservation_id].append(device_id)
    for one in session.execute(
        sa.select(Reservation).where(Reservation.state.in_(LIVE), Reservation.ends_at > now)
    ).scalars():
        if one.id != besides:
            yield (
                one.node_id,
                Span(
                    one.name, one.starts_at, one.ends_at, frozenset(bound[one.id]), one.cpus_millis,
                    one.memory_bytes, reservation_id=one.id,
                ),
            )  # fmt: skip


def _leased(session: Session, now: datetime) -> Iterator[tuple[UUID, Span]]:
    """Up to their deadlines. One under a reservation has what that holds, and counts from its end on."""
    parts: dict[UUID, list[UUID]] = defaultdict(list)
    for run_id, device_id in session.execute(
        sa.select(Allocation.run_id, Allocation.device_id).where(Allocation.released_at.is_(None))
    ):
        parts[run_id].append(device_id)
    rows = session.execute(
        sa.select(Run, Lease, sa.func.coalesce(Reservation.ends_at, now))
        .join(Lease, Lease.id == Run.lease_id)
        .outerjoin(Reservation, sa.and_(Reservation.id == Lease.reservation_id, Reservation.state.in_(LIVE)))
        .where(Run.released_at.is_(None))
    )
    for run, lease, reserved_until in rows:
        starts_at, ends_at = max(now, reserved_until), deadline(lease, now)
        if starts_at < ends_at:
            yield (
                run.node_id,
                Span(
                    lease.name, starts_at, ends_at, frozenset(parts[run.id]), run.cpus_millis, run.memory_bytes,
                    lease_id=lease.id,
                ),
            )  # fmt: skip


def deadline(lease: Lease, now: datetime) -> datetime:
    """When a lease that holds a place gives it back at the latest; one that is being stopped is about to."""
    if lease.state == LeaseState.STOPPING:
        return now
    return lease.ends_at or lease.until or now + timedelta(seconds=lease.ttl_seconds or 0)


def in_the_way(session: Session, lease: Lease, until: datetime, *, now: datetime) -> Span | None:
    """The first reservation that a lease would take something from if it kept its place until then; None: it may."""
    run = session.execute(
        sa.select(Run).where(Run.lease_id == lease.id, Run.released_at.is_(None))
    ).scalar_one_or_none()
    if run is None:
        return None
    own = frozenset(
        session.execute(
            sa.select(Allocation.device_id).where(
                Allocation.run_id == run.id, Allocation.released_at.is_(None)
            )
        ).scalars()
    )
    place = next(place for place in load(session, now=now) if place.node_id == run.node_id)
    own_reservation = lease.reservation_id
    others = [
        span
        for span in place.spans
        if span.lease_id != lease.id
        and (span.reservation_id is None or span.reservation_id != own_reservation)
    ]
    beside = Place(
        place.node_id, place.name, place.closed, place.cpus_millis, place.memory_bytes, (), {}, others
    )
    reserved = sorted(
        (span for span in others if span.reservation_id is not None and span.overlaps(now, until)),
        key=lambda span: span.starts_at,
    )
    for span in reserved:
        then = max(now, span.starts_at)
        moment = timedelta(microseconds=1)
        if own & span.device_ids or not beside.has_room(
            run.cpus_millis, run.memory_bytes, then, then + moment
        ):
            return span
    return None


def stamp(moment: datetime) -> str:
    """As every command takes it, wherever it is typed; down to the minute."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


def said(moment: datetime) -> str:
    """For people."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M UTC}"
