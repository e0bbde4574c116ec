"""Room in a cluster as it is used up by a plan: snapshot in, placements out, the arithmetic left to the placer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from leasing.gpus import WHOLE, GpuAsk
from scheduler.policy.field import Field, FieldDevice, Want
from scheduler.policy.filters import grants
from scheduler.policy.placer import Placer, Spot
from scheduler.policy.snapshot import Device, Node, Placement, Request, Snapshot, Waiting
from scheduler.policy.topology import best_connected

Kind = tuple[str, int, bool]
"""Model, memory and whether it is a MIG instance: devices of one kind are alike for every ask."""


class Rooms:
    """What is still free while a plan is made. Nodes and devices that nothing may go to are not offered."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.nodes: list[Node] = list(snapshot.nodes)
        """As they are after what has been placed so far, closed ones included."""
        self._open = [place for place, node in enumerate(self.nodes) if node.closed is None]
        self._by_id = {self.nodes[place].id: row for row, place in enumerate(self._open)}
        self._devices = [
            [device for device in self.nodes[place].devices if device.unfit is None] for place in self._open
        ]
        self._kinds: dict[Kind, int] = {}
        self._field = Field(
            [self.nodes[place].cpus_free_millis for place in self._open],
            [self.nodes[place].memory_free_bytes for place in self._open],
            [
                [FieldDevice(self._kind(one), one.memory_free_bytes, one.share_free) for one in devices]
                for devices in self._devices
            ],
        )
        self._placer = Placer(
            self._field,
            [
                (want, weight)
                for request, weight in snapshot.typical
                for want in self._wants(request)[:1]  # of a part, as it is of the largest kind of device
            ],
        )
        self._wanted: dict[Request, list[Want]] = {}

    def place(self, lease: Waiting) -> Placement | None:
        """The best place there is for the lease, now taken; None if there is none."""
        wants = self._wanted.get(lease.request)
        if wants is None:
            wants = self._wanted[lease.request] = self._wants(lease.request)
        only = None
        if lease.node_id is not None:
            only = self._by_id.get(lease.node_id)
            if only is None:
                return None
        found = [
            (spot.score, -order, want, spot)
            for order, want in enumerate(wants)
            if (spot := self._placer.best(want, only)) is not None
        ]
        if not found:
            return None
        _, _, want, spot = max(found, key=lambda one: one[:2])
        return self._take(lease, want, spot)

    def _take(self, lease: Waiting, want: Want, spot: Spot) -> Placement:
        place = self._open[spot.node]
        node, devices = self.nodes[place], self._devices[spot.node]
        possible = {grant.device.id: grant for grant in grants(lease, node)}
        if want.count > 1:
            chosen: Sequence[Device] = best_connected(
                [grant.device for grant in possible.values()], want.count, node.links
            )
        else:
            chosen = [devices[index] for index in spot.devices]
        rows = {device.id: index for index, device in enumerate(devices)}
        self._field.take(want, spot.node, [rows[device.id] for device in chosen])
        granted = tuple(possible[device.id] for device in chosen)
        left = {
            grant.device.id: replace(
                grant.device,
                share_free=grant.device.share_free - grant.share,
                memory_free_bytes=grant.device.memory_free_bytes - grant.memory_bytes,
            )
            for grant in granted
        }
        self.nodes[place] = replace(
            node,
            cpus_free_millis=node.cpus_free_millis - want.cpus_millis,
            memory_free_bytes=node.memory_free_bytes - want.memory_bytes,
            devices=tuple(left.get(device.id, device) for device in node.devices),
        )
        self._devices[spot.node] = [left.get(device.id, device) for device in devices]
        return Placement(lease, node, granted)

    def _kind(self, device: Device) -> int:
        return self._kinds.setdefault((device.model, device.memory_bytes, device.instance), len(self._kinds))

    def _wants(self, request: Request) -> list[Want]:
        """One for every share that the ask is of some kind of device; none if no kind will do."""
        if not request.gpu.count:
            return [Want(request.cpus_millis, request.memory_bytes)]
        kinds: dict[tuple[int, int], set[int]] = defaultdict(set)
        for (model, memory, instance), number in self._kinds.items():
            if request.gpu.takes(model, instance=instance) and (share := request.gpu.share_of(memory)):
                kinds[share, _device_memory(request.gpu, memory)].add(number)
        return [
            Want(
                request.cpus_millis, request.memory_bytes, request.gpu.count, share, memory, frozenset(models)
            )
            for (share, memory), models in sorted(kinds.items())
        ]


def _device_memory(ask: GpuAsk, memory: int) -> int:
    """Of a whole device its share says it all, and devices of different memory need not be told apart."""
    return 0 if ask.share == WHOLE and ask.memory_bytes is None else ask.memory_of(memory)
