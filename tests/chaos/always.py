"""What holds at any moment, whatever is down: each invariant a function from a picture to what is wrong.

The numbers are those of DESIGN, "What must always hold". A new one is a function in `ALWAYS`, and a mutation in
tests/unit/test_chaos_invariants.py that it finds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from leasing.gpus import WHOLE
from leasing.states import EDGES, HOLDING, LeaseState
from tests.chaos.picture import Picture, Row

Invariant = Callable[[Picture], Iterator[str]]


def allocations_fit_their_device(picture: Picture) -> Iterator[str]:
    """1: recomputed from the rows, not believed of the sums that the database keeps."""
    shares: dict[Any, int] = defaultdict(int)
    memory: dict[Any, int] = defaultdict(int)
    for row in picture["allocation"]:
        if row["released_at"] is None:
            shares[row["device_id"]] += row["share"]
            memory[row["device_id"]] += row["memory_bytes"]
    for usage in picture["device_usage"]:
        share, used = shares[usage["device_id"]], memory[usage["device_id"]]
        if share > usage["share"] or used > usage["memory_bytes"]:
            yield f"device {usage['device_id']} has {share}/{usage['share']} thousandths given away"


def usage_rows_are_the_sums(picture: Picture) -> Iterator[str]:
    """1: what the database refuses by is what is there."""
    shares: dict[Any, int] = defaultdict(int)
    for row in picture["allocation"]:
        if row["released_at"] is None:
            shares[row["device_id"]] += row["share"]
    for usage in picture["device_usage"]:
        # a device bound to a warm container in advance is in the sum of whoever keeps it so
        bound = any(row["device_id"] == usage["device_id"] for row in picture["warm"])
        if not bound and usage["share_used"] != shares[usage["device_id"]]:
            yield f"device {usage['device_id']} counts {usage['share_used']} used, {shares[usage['device_id']]} are"


def runs_fit_their_node(picture: Picture) -> Iterator[str]:
    """1: CPUs and memory of open runs against what the node has."""
    for usage in picture["node_usage"]:
        runs = [r for r in picture["run"] if r["node_id"] == usage["node_id"] and r["released_at"] is None]
        cpus, memory = sum(r["cpus_millis"] for r in runs), sum(r["memory_bytes"] for r in runs)
        if cpus > usage["cpus_millis"] or memory > usage["memory_bytes"]:
            yield f"node {usage['node_id']} has {cpus}/{usage['cpus_millis']} CPU thousandths given away"


def containers_fit_their_devices(picture: Picture) -> Iterator[str]:
    """1 and 6: of containers that are alive on a device at the same time, the shares are a whole at most."""
    share = {
        (picture.container(row["lease_id"], row["generation"]), row["device_id"]): row["share"]
        for row in picture["allocation"]
    }
    ids = {row["uuid"]: row["id"] for row in picture["device"]}
    on: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for engine in picture.engines.values():
        for box in engine.boxes:
            if box.alive:
                for uuid in box.devices:
                    on[uuid].append((box.name, share.get((box.name, ids.get(uuid)), WHOLE)))
    for uuid, boxes in on.items():
        if sum(part for _, part in boxes) > WHOLE:
            yield f"device {uuid} is used by {', '.join(sorted(name for name, _ in boxes))} at once"


def open_runs_belong_to_who_holds(picture: Picture) -> Iterator[str]:
    """1: a lease has an open run exactly while its state says that it holds a place."""
    open_runs = {row["lease_id"] for row in picture["run"] if row["released_at"] is None}
    for lease in picture["lease"]:
        if (lease["state"] in HOLDING) != (lease["id"] in open_runs):
            yield f"lease {called(lease)} is {lease['state']} and has {'a' if lease['id'] in open_runs else 'no'} place"


def allocations_end_with_their_run(picture: Picture) -> Iterator[str]:
    """1: who has given back the place has given back its devices."""
    closed = {row["id"]: row["lease_id"] for row in picture["run"] if row["released_at"] is not None}
    for row in picture["allocation"]:
        if row["released_at"] is None and row["run_id"] in closed:
            yield f"lease {closed[row['run_id']]} keeps device {row['device_id']} after its run"


def events_tell_the_state(picture: Picture) -> Iterator[str]:
    """3: a lease's events, replayed along the table, lead from its birth to where it is."""
    told: dict[Any, list[Row]] = defaultdict(list)
    for event in picture["event"]:
        if event["to_state"] is not None:
            told[event["lease_id"]].append(event)
    for lease in picture["lease"]:
        events = told[lease["id"]]
        steps = [(event["from_state"], event["to_state"]) for event in events]
        if not steps or steps[0] != (None, LeaseState.QUEUED):
            yield f"lease {called(lease)} was never born: {steps[:1]}"
            continue
        for (_, before), (source, target) in pairwise(steps):
            if source != before or (source, target) not in EDGES:
                yield f"lease {called(lease)} went from {before} along {source} to {target}"
        if steps[-1][1] != lease["state"]:
            yield f"lease {called(lease)} is {lease['state']}, its events say {steps[-1][1]}"


def an_end_has_its_reason(picture: Picture) -> Iterator[str]:
    """3: what is over says why, once."""
    for lease in picture["lease"]:
        if lease["state"] == LeaseState.ENDED and not (lease["reason"] and lease["ended_at"]):
            yield f"lease {called(lease)} has ended and does not say why"


def devices_were_proven_clean(picture: Picture) -> Iterator[str]:
    """6: a device that is leased anew was seen clean since the lease before gave it back."""
    given_back = {row["device_id"]: row["released_at"] for row in picture["device_usage"]}
    cleared = {row["id"]: row["cleared_at"] for row in picture["device"]}
    for row in picture["allocation"]:
        before = given_back.get(row["device_id"])
        if row["released_at"] is not None or row["share"] < WHOLE or before is None:
            continue  # while others hold a part of it, who left last may have left just now
        if before <= row["created_at"] and (
            cleared[row["device_id"]] is None or cleared[row["device_id"]] < before
        ):
            yield f"device {row['device_id']} is leased to {row['lease_id']} and was not seen clean since {before}"


def containers_are_fenced(picture: Picture) -> Iterator[str]:
    """10: no lease's container has more than every lease's has."""
    for engine in picture.engines.values():
        for box in engine.boxes:
            host = box.facts.get("HostConfig")
            if host is None:
                continue
            mounts = [
                one for one in box.facts.get("Mounts", ()) if one.get("Type") not in ("volume", "tmpfs")
            ]
            network = str(host.get("NetworkMode"))
            bare = not host.get("Memory") or not host.get("NanoCpus")
            for wrong, what in (
                (host.get("Privileged"), "is privileged"),
                ((host.get("CapDrop") or []) != ["ALL"] or host.get("CapAdd"), "has capabilities"),
                (not any("no-new-privileges" in one for one in host.get("SecurityOpt") or ()), "may gain privileges"),
                (host.get("PidMode") or host.get("IpcMode") == "host", "shares the machine's namespaces"),
                (not network.startswith((f"leasing-{picture.installation}", "container:")), f"is in {network}"),
                (mounts or host.get("Binds"), "has a folder of the machine"),
                (bare and box.labels.get("leasing.role") != "sandbox", "has no limits"),
            ):  # fmt: skip
                if wrong:
                    yield f"container {box.name} {what}"


def networks_are_not_shared(picture: Picture) -> Iterator[str]:
    """10: no two containers of leases that are alive share a network."""
    for engine in picture.engines.values():
        users: dict[str, set[str]] = defaultdict(set)
        for box in engine.boxes:
            if box.alive and box.labels.get("leasing.role") == "lease" and box.facts:
                users[box.facts["HostConfig"]["NetworkMode"]].add(box.name)
        for network, names in users.items():
            if len(names) > 1:
                yield f"containers {', '.join(sorted(names))} share network {network}"


def nobody_is_reclaimed_unknown_or_unwarned(picture: Picture) -> Iterator[str]:
    """5: taken back as idle means: idle by a verdict that stands in the row, and told of before."""
    warned = {row["lease_id"] for row in picture["notice"] if row["kind"] == "idle"}
    for lease in picture["lease"]:
        idle = lease["reason"] == "idle" or (
            lease["suspend_reason"] == "idle" and lease["state"] != LeaseState.RUNNING
        )
        if not idle:
            continue
        if lease["idle_verdict"] == "unknown":
            yield f"lease {called(lease)} was taken back as idle on an unknown signal"
        if lease["id"] not in warned:
            yield f"lease {called(lease)} was taken back as idle and nobody was warned"


def called(lease: Row) -> str:
    """By name, and by what tells it from others of that name."""
    return f"{lease['name']} ({lease['id'].hex[:12]})"


ALWAYS: tuple[Invariant, ...] = (
    allocations_fit_their_device,
    usage_rows_are_the_sums,
    runs_fit_their_node,
    containers_fit_their_devices,
    open_runs_belong_to_who_holds,
    allocations_end_with_their_run,
    events_tell_the_state,
    an_end_has_its_reason,
    devices_were_proven_clean,
    containers_are_fenced,
    networks_are_not_shared,
    nobody_is_reclaimed_unknown_or_unwarned,
)
