"""The picture a plan is made from, and the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from leasing.gpus import GpuAsk

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


@dataclass(frozen=True)
class Request:
    """What a lease asks for, whoever asks."""

    gpu: GpuAsk
    cpus_millis: int
    memory_bytes: int


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


@dataclass(frozen=True)
class Yielding:
    """A running lease that may be suspended for another. `since` is when it last started."""

    id: UUID
    name: str
    held: Held
    project: str
    priority: int
    since: datetime


@dataclass(frozen=True)
class Reserved:
    """Devices, CPUs and memory of a node that are promised from a moment to another."""

    id: UUID
    name: str
    node_id: UUID
    device_ids: Sequence[UUID]
    cpus_millis: int
    memory_bytes: int
    starts_at: datetime
    ends_at: datetime


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
    reserved: Sequence[Reserved] = ()
    standings: Mapping[str, Standing] = field(default_factory=dict)
    """Project → what it has had so far."""


@dataclass(frozen=True)
class Placement:
    """This lease goes there, on these devices."""

    lease: Waiting
    node: Node
    grants: Sequence[Grant]
    ends_before: datetime | None = None
    """A reservation begins then: its time is cut to that."""

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
