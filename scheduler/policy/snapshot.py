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
    links: Mapping[frozenset[str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What a lease asks for, whoever asks."""

    gpu: GpuAsk
    cpus_millis: int
    memory_bytes: int


@dataclass(frozen=True)
class Waiting:
    """A queued lease. `node_id` is set when its workspace lies on that node."""

    id: UUID
    name: str
    request: Request
    wait: bool
    node_id: UUID | None = None
    seconds: float = 0.0
    """How long it may run, once it starts; until a fixed moment if `until` is set."""
    until: datetime | None = None

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


@dataclass(frozen=True)
class Snapshot:
    """The cluster at one moment; `queue` is in the order of service, `typical` is what usually comes, with weights."""

    nodes: Sequence[Node]
    queue: Sequence[Waiting]
    typical: Sequence[tuple[Request, float]] = ()
    at: datetime = EPOCH
    held: Sequence[Held] | None = None
    """None: not looked at. Then nothing is expected, and nobody goes ahead of one that waits."""


@dataclass(frozen=True)
class Placement:
    """This lease goes there, on these devices."""

    lease: Waiting
    node: Node
    grants: Sequence[Grant]

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
class Plan:
    """What to do now. `blockers` has a sentence or more for every lease that stays in the queue."""

    placements: Sequence[Placement]
    refusals: Sequence[tuple[Waiting, str]]
    blockers: Mapping[UUID, Sequence[str]]
    expected: Mapping[UUID, datetime | None] = field(default_factory=dict)
    """When each that waits will probably start; None where deadlines do not tell."""
