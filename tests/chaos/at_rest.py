"""What holds once nothing is broken any more and the platform has had a moment: each invariant a function of a picture.

They are asked again and again until none has anything to say; how long that takes is the time to converge, and what
still stands after the longest wait is a violation. A new one is a function in `AT_REST`, with a mutation in
tests/unit/test_chaos_invariants.py that it finds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from leasing import names
from leasing.states import TRANSITIONAL, EndReason, LeaseState, NodeHealth
from tests.chaos.always import Invariant, called
from tests.chaos.picture import Box, Picture, Row

HOUR_NS = 3600 * 10**9


def nodes_are_ready(picture: Picture) -> Iterator[str]:
    """2: every engine answers, and the platform has noticed."""
    for node in picture["node"]:
        if node["health"] != NodeHealth.READY:
            yield f"node {node['name']} is {node['health']}: {node['health_reason']}"
        if node["name"] not in picture.engines:
            yield f"engine {node['name']} does not answer"


def nothing_is_under_way(picture: Picture) -> Iterator[str]:
    """2: every start and stop has come to its end."""
    for lease in picture["lease"]:
        if lease["state"] in TRANSITIONAL:
            yield f"lease {called(lease)} is still {lease['state']}: {lease['progress'] or lease['message']}"


def running_leases_have_their_container(picture: Picture) -> Iterator[str]:
    """2: and it runs."""
    for run in picture.open_runs:
        lease = picture.leases[run["lease_id"]]
        boxes = picture.boxes(run["node_id"])
        if lease["state"] != LeaseState.RUNNING or boxes is None:
            continue
        box = boxes.get(picture.container(lease["id"], run["generation"])) or _by_id(
            boxes, run["container_id"]
        )
        if box is None or not box.alive:
            yield f"lease {called(lease)} runs, its container {'is ' + box.state if box else 'is not there'}"


def containers_have_their_row(picture: Picture) -> Iterator[str]:
    """2: nothing of ours is on an engine that no row owns. Whose lease has ended has none; but what was lost and is
    there again stays for its files, and does not run."""
    warm = {row["container_id"] for row in picture["warm"] if row["state"] != "spent"}
    for node_id, node in picture.node_names.items():
        engine = picture.engines.get(node)
        if engine is None:
            continue
        runs = [run for run in picture.open_runs if run["node_id"] == node_id]
        owned = {picture.container(run["lease_id"], run["generation"]) for run in runs}
        owned |= {
            lease["kept_container"]
            for lease in picture["lease"]
            if lease["kept_node_id"] == node_id and lease["state"] != LeaseState.ENDED
        }
        found = {
            picture.container(run["lease_id"], run["generation"])
            for run in picture["run"]
            if run["node_id"] == node_id and _lost(picture.leases.get(run["lease_id"]))
        }
        ids = {run["container_id"] for run in runs} | warm
        for box in engine.boxes:
            if box.name not in owned and box.id not in ids and (box.alive or box.name not in found):
                yield f"container {box.name} ({box.state}) on {node} has no row"


def networks_have_their_row(picture: Picture) -> Iterator[str]:
    """2: as containers do."""
    warm = {row["id"].hex[:12] for row in picture["warm"]}
    for node_id, node in picture.node_names.items():
        engine = picture.engines.get(node)
        if engine is None:
            continue
        owned = {
            names.network(picture.installation, run["lease_id"])
            for run in picture.open_runs
            if run["node_id"] == node_id
        }
        for network in engine.networks:
            if network not in owned and not any(one in network for one in warm):
                yield f"network {network} on {node} has no row"


def suspended_leases_keep_their_files(picture: Picture) -> Iterator[str]:
    """4: the stopped container that holds them is there, on the node that the row names."""
    for lease in picture["lease"]:
        if lease["state"] != LeaseState.SUSPENDED or lease["kept_container"] is None:
            continue
        boxes = picture.boxes(lease["kept_node_id"])
        box = boxes.get(lease["kept_container"]) if boxes is not None else None
        if boxes is not None and box is None:
            yield f"lease {called(lease)} is suspended, its files in {lease['kept_container']} are gone"
        if box is not None and box.alive:
            yield f"lease {called(lease)} is suspended, its container {box.name} is {box.state}"


def suspended_leases_have_files(picture: Picture) -> Iterator[str]:
    """4: nobody is suspended with nothing to go on with."""
    for lease in picture["lease"]:
        if lease["state"] == LeaseState.SUSPENDED and lease["kept_container"] is None:
            yield f"lease {called(lease)} is suspended and nothing of it is kept"


def workspaces_are_there(picture: Picture) -> Iterator[str]:
    """4: the volume of every workspace that a lease has run with, long after that lease."""
    used = {
        (lease["workspace_id"], run["node_id"])
        for run in picture["run"]
        if run["container_id"] is not None
        and (lease := picture.leases.get(run["lease_id"])) is not None
        and lease["workspace_id"] is not None
    }
    for space in picture["workspace"]:
        if space["deleted_at"] is not None:
            continue
        for node_id in {node for one, node in used if one == space["id"]} | {space["node_id"]} - {None}:
            engine = picture.engines.get(picture.node_names[node_id])
            volume = names.volume(picture.installation, space["id"])
            if engine is not None and (space["id"], node_id) in used and volume not in engine.volumes:
                where = picture.node_names[node_id]
                yield f"workspace {space['name']} ({space['id'].hex[:12]}) has no volume on {where}"


def kept_images_are_wanted(picture: Picture) -> Iterator[str]:
    """2: an image with files is there for a lease that lives, or was lost and may be found."""
    live = {
        lease["id"].hex[:12]
        for lease in picture["lease"]
        if lease["state"] != LeaseState.ENDED or _lost(lease)
    }
    for node, engine in picture.engines.items():
        for tag in engine.kept:
            if not any(one in tag for one in live):
                yield f"image {tag} on {node} is kept for nobody"


def waiting_leases_know_why(picture: Picture) -> Iterator[str]:
    """8: a place in the order, and when it starts or why that cannot be said."""
    for lease in picture["lease"]:
        if lease["state"] != LeaseState.QUEUED:
            continue
        if lease["rank"] is None:
            yield f"lease {called(lease)} waits and has no place in the order"
        if lease["expected_start"] is None and not lease["blockers"]:
            yield f"lease {called(lease)} waits and is told neither when it starts nor why that cannot be said"


def places_in_the_order_are_distinct(picture: Picture) -> Iterator[str]:
    """8: no two who wait have the same."""
    seen: dict[int, str] = {}
    for lease in picture["lease"]:
        if lease["state"] == LeaseState.QUEUED and lease["rank"] is not None:
            if lease["rank"] in seen:
                yield f"leases {called(lease)} and {seen[lease['rank']]} have the same place in the order"
            seen[lease["rank"]] = called(lease)


def seconds_sum_to_capacity(picture: Picture) -> Iterator[str]:
    """7: every sealed hour of a device is in its classes to the nanosecond, and none between two is missing."""
    classes = ("leased", "held", "free", "foreign_use", "out", "unknown")
    hours: dict[Any, list[datetime]] = defaultdict(list)
    for row in picture["device_hour"]:
        hours[row["device_id"]].append(row["hour"])
        total = sum(row[name] for name in classes)
        if total != row["capacity"] or total > HOUR_NS:
            yield f"device {row['device_id']} has {total} of {row['capacity']} ns counted in {row['hour']}"
    for device, sealed in hours.items():
        if len(sealed) != (max(sealed) - min(sealed)) / timedelta(hours=1) + 1:
            yield f"device {device} has {len(sealed)} hours sealed between {min(sealed)} and {max(sealed)}"


def _by_id(boxes: dict[str, Box], container_id: str | None) -> Box | None:
    """A warm container keeps the name that it was made with."""
    return next((box for box in boxes.values() if box.id == container_id), None)


def _lost(lease: Row | None) -> bool:
    """A run of this lasts for no retention's length: what was lost in it is kept to its end."""
    return lease is not None and lease["state"] == LeaseState.ENDED and lease["reason"] == EndReason.LOST


AT_REST: tuple[Invariant, ...] = (
    nodes_are_ready,
    nothing_is_under_way,
    running_leases_have_their_container,
    containers_have_their_row,
    networks_have_their_row,
    suspended_leases_keep_their_files,
    suspended_leases_have_files,
    workspaces_are_there,
    kept_images_are_wanted,
    waiting_leases_know_why,
    places_in_the_order_are_distinct,
    seconds_sum_to_capacity,
)
