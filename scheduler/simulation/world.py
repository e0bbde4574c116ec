"""What is simulated: a cluster, the requests that came to it, and the policy that is tried. Times are in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid5

from leasing.gpus import WHOLE
from scheduler.policy.planner import Policy
from scheduler.policy.snapshot import Node, Request

SPACE = UUID("6f7a3c1e-2d54-4b8e-9a51-0c9d2e7f4b10")
"""Of ids that are made up: the same input makes the same ones."""


@dataclass(frozen=True)
class Asked:
    """A lease of the record: who asked for what and when, and how long it held its place."""

    id: UUID
    name: str
    owner: str
    project: str
    environment: str
    request: Request
    share: int
    """Thousandths of each device, for figures; of an ask for memory, what it is of the largest device."""
    at: float
    asked_seconds: float
    """How long it might run, as far as the platform knew."""
    ran_seconds: float
    """How long it did."""
    quiet_seconds: float | None = None
    """How long it had been idle when it ended; None: not known."""
    priority: int = 0
    preemptible: bool = False
    wait: bool = True
    node_name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    waited_seconds: float | None = None
    """How long it really waited; None: not known."""

    @property
    def devices(self) -> float:
        """How many it asks for, parts as such."""
        return self.request.gpu.count * self.share / WHOLE


@dataclass(frozen=True)
class World:
    """Nodes with nothing on them, requests in order of arrival, and each project's weight (1 where none is named).

    Figures are of the time from `begins` to `ends`. `notes` say what the record lacks.
    """

    nodes: Sequence[Node]
    asked: Sequence[Asked]
    weights: Mapping[str, float]
    begins: float
    ends: float
    notes: Sequence[str] = ()

    @property
    def devices(self) -> int:
        """How many may be leased."""
        return sum(
            device.unfit is None for node in self.nodes if node.closed is None for device in node.devices
        )


@dataclass(frozen=True)
class Options:
    """What is tried: the planner's policy, and for how long leases are let run. The defaults are the platform's."""

    policy: Policy = field(default_factory=Policy)
    idle_seconds: float | None = None
    """Everybody's lease ends when it has been idle for so long; None: as in the record."""
    most_seconds: float | None = None
    """No lease runs longer."""
    devices_per_user: float | None = None
    """Whoever would hold or wait for more is refused."""

    def runs(self, asked: Asked) -> float:
        """How long the lease holds its place under this policy, if nobody takes it away."""
        seconds = asked.ran_seconds
        if self.idle_seconds is not None and asked.quiet_seconds is not None:
            quiet = min(asked.quiet_seconds, seconds)  # its end may be long after it held anything
            seconds -= max(0.0, quiet - self.idle_seconds)
        return seconds if self.most_seconds is None else min(seconds, self.most_seconds)

    def may_run(self, asked: Asked) -> float:
        """How long the planner is told that it may run."""
        if self.most_seconds is None:
            return asked.asked_seconds
        return min(asked.asked_seconds, self.most_seconds)


def with_nodes(world: World, count: int) -> World:
    """The same requests on the first `count` nodes; where there are fewer, copies of them follow in turn."""
    nodes = [
        _copy(world.nodes[number % len(world.nodes)], number // len(world.nodes)) for number in range(count)
    ]
    return replace(world, nodes=nodes)


def _copy(node: Node, number: int) -> Node:
    if not number:
        return node
    name = f"{node.name}+{number}"
    uuids = {device.uuid: f"{device.uuid}+{number}" for device in node.devices}
    return replace(
        node,
        id=uuid5(SPACE, f"{node.id}+{number}"),
        name=name,
        devices=tuple(
            replace(device, id=uuid5(SPACE, f"{device.id}+{number}"), uuid=uuids[device.uuid])
            for device in node.devices
        ),
        links={frozenset(uuids[uuid] for uuid in pair): rank for pair, rank in node.links.items()},
    )
