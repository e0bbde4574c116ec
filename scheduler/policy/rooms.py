"""Room in a cluster as it is used up by a plan: snapshot in, placements out, the arithmetic left to the placer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from leasing.gpus import WHOLE, GpuAsk
from scheduler.policy.field import Field, FieldDevice, Want
from scheduler.policy.filters import grants
from scheduler.policy.placer import Placer, Spot
from scheduler.policy.snapshot import Device, Held, Node, Placement, Request, Snapshot, Waiting
from scheduler.policy.topology import best_connected

FOR_EVER = datetime.max.replace(tzinfo=UTC)
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
        found = self._best(lease)
        return None if found is None else self._take(lease, *found)

    def has_room(self, lease: Waiting) -> bool:
        """Whether there is a place for it."""
        return self._best(lease) is not None

    def _best(self, lease: Waiting) -> tuple[Want, Spot] | None:
        wants = self._wanted.get(lease.request)
        if wants is None:
            wants = self._wanted[lease.request] = self._wants(lease.request)
        only = None
        if lease.node_id is not None:
            only = self._by_id.get(lease.node_id)
            if only is None:
                return None
        found = [(want, spot) for want in wants if (spot := self._placer.best(want, only)) is not None]
        return max(found, key=lambda one: one[1].score, default=None)

    def give_back(self, held: Held) -> None:
        """Its place is free again; of a node or device that is not offered nothing comes back."""
        row = self._by_id.get(held.node_id)
        if row is not None:
            self._change(row, held, 1)

    def _take(self, lease: Waiting, want: Want, spot: Spot) -> Placement:
        node = self.nodes[self._open[spot.node]]
        possible = {grant.device.id: grant for grant in grants(lease, node)}
        if want.count > 1:
            chosen: Sequence[Device] = best_connected(
                [grant.device for grant in possible.values()], want.count, node.links
            )
        else:
            chosen = [self._devices[spot.node][index] for index in spot.devices]
        placement = Placement(lease, node, tuple(possible[device.id] for device in chosen))
        self._change(spot.node, placement.held(FOR_EVER), -1)
        return placement

    def _change(self, row: int, held: Held, sign: int) -> None:
        """Add (or with -1 take away) what is held, in the field and in the nodes that people are told of."""
        node, devices = self.nodes[self._open[row]], self._devices[row]
        rows = {device.id: index for index, device in enumerate(devices)}
        parts = [
            (rows[device_id], sign * share, sign * memory)
            for device_id, share, memory in held.grants
            if device_id in rows
        ]
        self._field.change(row, sign * held.cpus_millis, sign * held.memory_bytes, parts)
        for index, share, memory in parts:
            devices[index] = replace(
                devices[index],
                share_free=devices[index].share_free + share,
                memory_free_bytes=devices[index].memory_free_bytes + memory,
            )
        now = {device.id: device for device in devices}
        self.nodes[self._open[row]] = replace(
            node,
            cpus_free_millis=node.cpus_free_millis + sign * held.cpus_millis,
            memory_free_bytes=node.memory_free_bytes + sign * held.memory_bytes,
            devices=tuple(now.get(device.id, device) for device in node.devices),
        )

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
