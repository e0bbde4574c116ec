"""Room in a cluster as it is used up by a plan: snapshot in, placements out, the arithmetic left to the placer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np

from leasing.gpus import WHOLE, GpuAsk
from scheduler.policy.field import Field, FieldDevice, Indices, Want
from scheduler.policy.filters import asked_for, granted, grants, holds_files, refusals
from scheduler.policy.placer import Placer, Spot
from scheduler.policy.promises import Promised, own, promised
from scheduler.policy.snapshot import (
    Device,
    Grant,
    Held,
    Node,
    Placement,
    Request,
    Reserved,
    Snapshot,
    Waiting,
)
from scheduler.policy.topology import best_connected

FOR_EVER = datetime.max.replace(tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
Kind = tuple[str, int, bool]
"""Model, memory and whether it is a MIG instance: devices of one kind are alike for every ask."""


class Rooms:
    """What is still free while a plan is made. Nodes and devices that nothing may go to are not offered."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._nodes: list[Node] = list(snapshot.nodes)
        self._since: dict[int, list[tuple[Held, int]]] = {}
        """What has been taken and given back since a node was last written down, by its row."""
        self._open = [place for place, node in enumerate(self._nodes) if node.closed is None]
        self._by_id = {self._nodes[place].id: row for row, place in enumerate(self._open)}
        self._offered = [
            {
                device: index
                for index, device in enumerate(
                    one.id for one in self._nodes[place].devices if one.unfit is None
                )
            }
            for place in self._open
        ]
        self._kinds: dict[Kind, int] = {}
        self._field = Field(
            [self._nodes[place].cpus_free_millis for place in self._open],
            [self._nodes[place].memory_free_bytes for place in self._open],
            [
                [
                    FieldDevice(self._kind(one), one.memory_free_bytes, one.share_free)
                    for one in self._devices(row)
                ]
                for row in range(len(self._open))
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
        self._asked: dict[tuple[str | None, UUID | None, frozenset[tuple[str, str]]], Indices] = {}
        self._reserved = [row for row, place in enumerate(self._open) if self._nodes[place].reserved]
        self._kept: dict[int, tuple[Promised, list[tuple[int, int, int]]]] = {}
        """What of a node is hidden from the field just now, for it is promised."""

    @property
    def nodes(self) -> list[Node]:
        """As they are after what has been placed so far, closed ones included."""
        for row in list(self._since):
            self._node(row)
        return self._nodes

    def _node(self, row: int) -> Node:
        """As it is now. It is written down only when somebody looks: a forecast mostly does not."""
        place = self._open[row]
        for held, sign in self._since.pop(row, ()):
            self._nodes[place] = self._nodes[place].after(held, sign)
        return self._nodes[place]

    def place(self, lease: Waiting, at: datetime) -> Placement | None:
        """The best place there is for the lease, were it to start then, now taken; None if there is none.

        A reservation that begins before its end keeps its devices, unless the lease may be cut short.
        """
        if lease.reservation_id is not None:
            return self._under(lease, at)
        found = self._found(lease, at)
        if found is None:
            return None
        want, spot, whole = found
        placement = self._chosen(lease, want, spot)
        if not whole:
            placement = self._cut(placement, at)
        self._change(spot.node, placement.held(FOR_EVER), -1)
        return placement

    def has_room(self, lease: Waiting, at: datetime) -> bool:
        """Whether there is a place for it then."""
        if lease.reservation_id is not None:
            return self._place_under(lease, at) is not None
        return self._found(lease, at) is not None

    def give_back(self, held: Held) -> None:
        """Its place is free again; of a node or device that is not offered nothing comes back."""
        row = self._by_id.get(held.node_id)
        if row is not None:
            self._change(row, held, 1)

    def _found(self, lease: Waiting, at: datetime) -> tuple[Want, Spot, bool] | None:
        """The best place, and whether for its whole time."""
        end = lease.end(at)
        if (best := self._best(lease, at, end)) is not None:
            return *best, True
        if not self._reserved or lease.at_least_seconds is None:
            return None
        least = at + timedelta(seconds=lease.at_least_seconds)
        if least < end and (best := self._best(lease, at, least)) is not None:
            return *best, False
        return None

    def _best(self, lease: Waiting, at: datetime, end: datetime) -> tuple[Want, Spot] | None:
        wants = self._wanted.get(lease.request)
        if wants is None:
            wants = self._wanted[lease.request] = self._wants(lease.request)
        for row in self._reserved:
            self._keep(row, promised(self._node(row), lease, at, end))
        only = self._only(lease, at)
        found = [(want, spot) for want in wants if (spot := self._placer.best(want, only)) is not None]
        return max(found, key=lambda one: one[1].score, default=None)

    def _only(self, lease: Waiting, at: datetime) -> Indices | None:
        """The nodes that its conditions leave; None for all."""
        if lease.node_id is None and lease.node_name is None and not lease.labels:
            return None
        key = (lease.node_name, lease.node_id, frozenset(lease.labels.items()))
        rows = self._asked.get(key)
        if rows is None:
            fitting = [
                row
                for row, place in enumerate(self._open)
                if not (
                    asked_for(lease, self._nodes[place], at) or holds_files(lease, self._nodes[place], at)
                )
            ]
            rows = self._asked[key] = np.array(fitting, dtype=np.int64)
        return rows

    def _under(self, lease: Waiting, at: datetime) -> Placement | None:
        """On the devices of its reservation, while that lasts."""
        found = self._place_under(lease, at)
        if found is None:
            return None
        row, mine = found
        node = self._node(row)
        possible = {grant.device.id: grant for grant in grants(lease, node, at)}
        chosen = best_connected(
            [grant.device for grant in possible.values()], lease.request.gpu.count, node.links
        )
        cut = mine.ends_at if lease.end(at) > mine.ends_at else None
        placement = Placement(lease, node, tuple(possible[device.id] for device in chosen), cut)
        self._change(row, placement.held(FOR_EVER), -1)
        self._nodes[self._open[row]] = self._node(row).using(mine, lease.request)
        return placement

    def _place_under(self, lease: Waiting, at: datetime) -> tuple[int, Reserved] | None:
        for row in self._reserved:
            node = self._node(row)
            mine = own(node, lease)
            if mine is not None and not refusals(lease, node, at):
                return row, mine
        return None

    def _chosen(self, lease: Waiting, want: Want, spot: Spot) -> Placement:
        node, devices = self._node(spot.node), self._devices(spot.node)
        if want.count > 1:
            fitting = np.flatnonzero(self._field.accepts(want, np.array([spot.node]))[0])
            chosen: Sequence[Device] = best_connected(
                sorted((devices[index] for index in fitting), key=lambda one: (one.index, one.uuid)),
                want.count,
                node.links,
            )
        else:
            chosen = [devices[index] for index in spot.devices]
        return Placement(lease, node, tuple(_granted(lease.request.gpu, device) for device in chosen))

    def _cut(self, placement: Placement, at: datetime) -> Placement:
        """To the beginning of the first reservation that needs what it is given."""
        lease, node = placement.lease, placement.node
        taken = {grant.device.id for grant in placement.grants}
        for one in sorted(node.reserved, key=lambda one: one.starts_at):
            if not at < one.starts_at < lease.end(at):
                continue
            kept = promised(node, lease, at, one.starts_at + INSTANT)
            if (
                taken & one.device_ids
                or node.cpus_free_millis - lease.request.cpus_millis < kept.cpus_millis
                or node.memory_free_bytes - lease.request.memory_bytes < kept.memory_bytes
            ):
                return Placement(lease, node, placement.grants, one.starts_at)
        return placement

    def _keep(self, row: int, kept: Promised | None) -> None:
        """Hide from the field what is promised on that node, and show again what was."""
        before = self._kept.get(row)
        if (before[0] if before else Promised()) == (kept or Promised()):
            return
        if before is not None:
            del self._kept[row]
            hidden, parts = before
            self._field.change(row, hidden.cpus_millis, hidden.memory_bytes, parts)
        if kept is not None and kept != Promised():
            parts = [
                (index, device.share_free, device.memory_free_bytes)
                for index, device in enumerate(self._devices(row))
                if device.id in kept.devices
            ]
            self._kept[row] = (kept, parts)
            away = [(index, -share, -memory) for index, share, memory in parts]
            self._field.change(row, -kept.cpus_millis, -kept.memory_bytes, away)

    def _change(self, row: int, held: Held, sign: int) -> None:
        """Add (or with -1 take away) what is held, in the field and in the nodes that people are told of."""
        if self._kept:
            self._keep(row, None)
        rows = self._offered[row]
        parts = [part for part in held.grants if part[0] in rows]
        self._field.change(
            row,
            sign * held.cpus_millis,
            sign * held.memory_bytes,
            [(rows[device], sign * share, sign * memory) for device, share, memory in parts],
        )
        self._since.setdefault(row, []).append((replace(held, grants=parts), sign))

    def _devices(self, row: int) -> list[Device]:
        """Those that are offered, in the order of the field."""
        return [device for device in self._node(row).devices if device.unfit is None]

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


def _granted(ask: GpuAsk, device: Device) -> Grant:
    grant = granted(ask, device)
    assert grant is not None, "the field has found it to have room"
    return grant


def _device_memory(ask: GpuAsk, memory: int) -> int:
    """Of a whole device its share says it all, and devices of different memory need not be told apart."""
    return 0 if ask.share == WHOLE and ask.memory_bytes is None else ask.memory_of(memory)
