"""What was asked for lately, and what became of it, on the wire: enough to play it again, and nothing private of it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from leasing.schema.base import Wire


class HistoryDevice(Wire):
    """A device as it is now. `open`: neither cordoned nor faulty."""

    uuid: str
    index: int
    model: str
    memory_bytes: int
    instance: bool
    """Of MIG; a device that is leased through its instances is not listed itself."""
    open: bool


class HistoryNode(Wire):
    """A node as it is now, with all that leases may have of it. CPUs in thousandths of a core."""

    name: str
    cpus_millis: int
    memory_bytes: int
    open: bool
    labels: dict[str, str]
    devices: list[HistoryDevice]
    links: list[tuple[str, str, int]]
    """Two devices by their UUIDs, and how well they are connected: higher is better."""


class HistoryProject(Wire):
    """A project and the weight of its part."""

    name: str
    weight: float


class HistoryLease(Wire):
    """What a lease asked for, and when it had what. Without its command, environment variables, output and files."""

    id: UUID
    name: str
    owner: str
    project: str
    image: str
    gpu_count: int
    gpu_model: str | None
    gpu_share: int
    """Thousandths of each device; of an ask for memory, what it is of the largest one."""
    gpu_memory_bytes: int | None
    cpus_millis: int
    memory_bytes: int
    seconds: int
    """How long it might run when it was asked for."""
    priority: int
    preemptible: bool
    wait: bool
    node: str | None
    """The only node it would have."""
    labels: dict[str, str]
    state: str
    reason: str | None
    asked_at: datetime
    placed_at: datetime | None
    """When it first had its place."""
    held_seconds: float
    """How long it has held its place so far, all its runs together."""
    ended_at: datetime | None
    idle_since: datetime | None
    """Idle from then until it ended; None if it was not, or if that is not known."""


class HistoryPage(Wire):
    """Leases that lived at any time from `since` to `until`, in order of arrival.

    What is so only now, nodes and projects, comes with the first page.
    """

    since: datetime
    until: datetime
    nodes: list[HistoryNode]
    projects: list[HistoryProject]
    items: list[HistoryLease]
    next: str | None
