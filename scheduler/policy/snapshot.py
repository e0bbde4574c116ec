"""The picture a plan is made from, and the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from leasing.gpus import GpuAsk


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


@dataclass(frozen=True)
class Snapshot:
    """The cluster at one moment; `queue` is in the order of service, `typical` is what usually comes, with weights."""

    nodes: Sequence[Node]
    queue: Sequence[Waiting]
    typical: Sequence[tuple[Request, float]] = ()


@dataclass(frozen=True)
class Grant:
    """A part of a device, in thousandths, with its memory."""

    device: Device
    share: int
    memory_bytes: int


@dataclass(frozen=True)
class Placement:
    """This lease goes there, on these devices."""

    lease: Waiting
    node: Node
    grants: Sequence[Grant]


@dataclass(frozen=True)
class Plan:
    """What to do now. `blockers` has a sentence or more for every lease that stays in the queue."""

    placements: Sequence[Placement]
    refusals: Sequence[tuple[Waiting, str]]
    blockers: Mapping[UUID, Sequence[str]]
