"""The picture a plan is made from, and the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from leasing.gpus import WHOLE, GpuAsk

CPU_WORTH = 0.05
"""What a CPU counts for, in devices: a node of eight devices commonly has about 160."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Device:
    """A device of a node. `unfit` says why nothing new may go there; None if it may.

    `share_free` and `memory_free_bytes` are what leases have left of it; `instance` marks a MIG instance.
    """

    id: UUID
    uuid: str
    index: int
    model: str
    memory_bytes: int
    share_free: int
    memory_free_bytes: int
    instance: bool = False
    unfit: str | None = None


@dataclass(frozen=True)
class Reserved:
    """Devices of a node promised from a moment to another, with the CPUs and memory that nobody has under it yet."""

    id: UUID
    name: str
    device_ids: frozenset[UUID]
    cpus_millis: int
    memory_bytes: int
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True)
class Node:
    """A node with what is free on it. `closed` says why nothing new may go there; None if it may.

    `links` holds how well two devices are connected, by their UUIDs in either order: higher is better.
    """

    id: UUID
    name: str
    cpus_free_millis: int
    memory_free_bytes: int
    devices: Sequence[Device]
    closed: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[frozenset[str], int] = field(default_factory=dict)
    reserved: Sequence[Reserved] = ()

    def using(self, mine: Reserved, request: Request) -> Node:
        """As it is when somebody has a place under that reservation: so much less is kept for it."""
        less = replace(
            mine,
            cpus_millis=max(0, mine.cpus_millis - request.cpus_millis),
            memory_bytes=max(0, mine.memory_bytes - request.memory_bytes),
        )
        return replace(self, reserved=[less if one.id == mine.id else one for one in self.reserved])

    def after(self, held: Held, sign: int) -> Node:
        """As it is when what is held has been given back (1), or taken (-1)."""
        parts = {device_id: (share, memory) for device_id, share, memory in held.grants}
        return replace(
            self,
            cpus_free_millis=self.cpus_free_millis + sign * held.cpus_millis,
            memory_free_bytes=self.memory_free_bytes + sign * held.memory_bytes,
            devices=tuple(
                replace(
                    device,
                    share_free=device.share_free + sign * parts[device.id][0],
                    memory_free_bytes=device.memory_free_bytes + sign * parts[device.id][1],
                )
                if device.id in parts
                else device
                for device in self.devices
            ),
        )


@dataclass(frozen=True)
class Request:
    """What a lease asks for, whoever asks."""

    gpu: GpuAsk
    cpus_millis: int
    memory_bytes: int

    @property
    def worth(self) -> float:
        """What is asked for, in devices: of devices and CPUs, whichever counts for more."""
        return max(self.gpu.count * self.gpu.share / WHOLE, self.cpus_millis / 1000 * CPU_WORTH)


@dataclass(frozen=True)
class Waiting:
    """A queued lease. `node_id` is set when its workspace, or what it has written so far, lies on that node."""

    id: UUID
    name: str
    request: Request
    wait: bool
    node_id: UUID | None = None
    seconds: float = 0.0
    """How long it may run, once it starts; until a fixed moment if `until` is set."""
    until: datetime | None = None
    at_least_seconds: float | None = None
    """A reservation may cut its time down to this; None: not at all."""
    node_name: str | None = None
    """Only on the node of that name."""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Only on nodes with all of these."""
    reservation_id: UUID | None = None
    """Under that reservation: on its devices, while it lasts."""
    project: str = ""
    priority: int = 0
    """Of its class; higher comes first."""
    preemptible: bool = False
    arrival: int = 0

    def end(self, start: datetime) -> datetime:
        """Its deadline, were it to start then."""
        return self.until if self.until is not None else start + timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class Grant:
    """A part of a device, in thousandths, with its memory."""

    device: Device
    share: int
    memory_bytes: int


@dataclass(frozen=True)
class Held:
    """What a placed or running lease gives back at its deadline `until`. `grants`: device id, share, memory."""

    node_id: UUID
    cpus_millis: int
    memory_bytes: int
    grants: Sequence[tuple[UUID, int, int]]
    until: datetime
    likely: datetime | None = None
    """When it will probably leave, by what leases usually do; None: nothing better than its deadline is known."""


PROTECTED = timedelta(minutes=10)
"""A lease that does not say otherwise is left alone for so long after each start, or it would never get anywhere."""


@dataclass(frozen=True)
class Yielding:
    """A running lease that may be suspended for another. `since` is when it last started."""

    id: UUID
    name: str
    held: Held
    project: str
    priority: int
    since: datetime
    worth: float = 1.0
    """What it holds, in devices (`Request.worth`)."""
    protected: timedelta = PROTECTED
    """It is left alone for so long after `since`."""


@dataclass(frozen=True)
class Standing:
    """What a project has used, in device-seconds of which older ones count for less, and the weight of its part."""

    used_device_seconds: float = 0.0
    weight: float = 1.0


@dataclass(frozen=True)
class Snapshot:
    """The cluster at one moment; `queue` is in the order of service, `typical` is what usually comes, with weights."""

    nodes: Sequence[Node]
    queue: Sequence[Waiting]
    typical: Sequence[tuple[Request, float]] = ()
    at: datetime = EPOCH
    held: Sequence[Held] | None = None
    """None: not looked at. Then nothing is expected, and nobody goes ahead of one that waits."""
    yielding: Sequence[Yielding] = ()
    standings: Mapping[str, Standing] = field(default_factory=dict)
    """Project → what it has had so far."""


@dataclass(frozen=True)
class Placement:
    """This lease goes there, on these devices."""

    lease: Waiting
    node: Node
    grants: Sequence[Grant]
    ends_before: datetime | None = None
    """A reservation begins then, or its own ends: its time is cut to that."""

    def until(self, start: datetime) -> datetime:
        """Its deadline, were it to start then."""
        end = self.lease.end(start)
        return end if self.ends_before is None else min(end, self.ends_before)

    def held(self, until: datetime) -> Held:
        """What it gives back then."""
        return Held(
            self.node.id,
            self.lease.request.cpus_millis,
            self.lease.request.memory_bytes,
            [(grant.device.id, grant.share, grant.memory_bytes) for grant in self.grants],
            until,
        )


@dataclass(frozen=True)
class Preemption:
    """This one is suspended, so that the other has room."""

    victim: Yielding
    by: Waiting


@dataclass(frozen=True)
class Plan:
    """What to do now. `blockers` has a sentence or more for every lease that stays in the queue."""

    placements: Sequence[Placement]
    refusals: Sequence[tuple[Waiting, str]]
    blockers: Mapping[UUID, Sequence[str]]
    expected: Mapping[UUID, datetime | None] = field(default_factory=dict)
    """When each that waits will probably start; None where nothing tells."""
    latest: Mapping[UUID, datetime | None] = field(default_factory=dict)
    """When each will start if everybody stays to the end of their time; None where deadlines do not tell."""
    preemptions: Sequence[Preemption] = ()
    order: Sequence[UUID] = ()
    """The whole queue in the order of service."""
