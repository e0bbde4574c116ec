"""Each invariant of the chaos harness finds what it looks for: a picture in order, and one thing in it changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.chaos import always, at_rest
from tests.chaos.always import ALWAYS, Invariant
from tests.chaos.at_rest import AT_REST
from tests.chaos.picture import Box, Engine, Picture

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OWN = "0a1b2c3d"
NODE, DEVICE, SPACE = UUID(int=1), UUID(int=2), UUID(int=3)
RUNS, RESTS, WAITS, OVER = (UUID(hex=f"{number}" * 32) for number in "abcd")

Rows = dict[str, list[dict[str, Any]]]


def name(lease: UUID, generation: int = 1) -> str:
    return f"leasing-{OWN}-{lease.hex[:12]}-{generation}"


def lease(lease_id: UUID, state: str, **facts: Any) -> dict[str, Any]:
    return {
        "id": lease_id, "name": state, "state": state, "reason": None, "ended_at": None, "suspend_reason": None,
        "idle_verdict": None, "workspace_id": None, "kept_node_id": None, "kept_container": None, "rank": None,
        "expected_start": None, "blockers": [], "progress": "", "message": "", **facts,
    }  # fmt: skip


def events(lease_id: UUID, *states: str) -> list[dict[str, Any]]:
    return [
        {"lease_id": lease_id, "from_state": before, "to_state": after, "actor": "somebody"}
        for before, after in zip((None, *states), states, strict=False)
    ]


def run(lease_id: UUID, number: int, **facts: Any) -> dict[str, Any]:
    return {
        "id": UUID(int=100 + number), "lease_id": lease_id, "generation": 1, "node_id": NODE, "cpus_millis": 500,
        "memory_bytes": 64, "container_id": f"id-{number}", "released_at": NOW, **facts,
    }  # fmt: skip


def allocation(lease_id: UUID, number: int, **facts: Any) -> dict[str, Any]:
    return {
        "run_id": UUID(int=100 + number), "lease_id": lease_id, "generation": 1, "device_id": DEVICE, "share": 1000,
        "memory_bytes": 40, "created_at": NOW, "released_at": None, **facts,
    }  # fmt: skip


def box(lease_id: UUID, number: int, state: str = "running", generation: int = 1, **host: Any) -> Box:
    facts = {
        "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"], "Memory": 64, "NanoCpus": 5, "PidMode": "",
        "NetworkMode": f"leasing-{OWN}-{lease_id.hex[:12]}",
        "DeviceRequests": [{"DeviceIDs": ["GPU-1"]}], **host,
    }  # fmt: skip
    labels = {"leasing.role": "lease"}
    return Box(f"id-{number}", name(lease_id, generation), state, labels, {"HostConfig": facts, "Mounts": []})


def sealed(hour: int) -> dict[str, Any]:
    return {
        "device_id": DEVICE, "hour": NOW + timedelta(hours=hour), "leased": 10, "held": 1, "free": 9,
        "foreign_use": 0, "out": 0, "unknown": 0, "capacity": 20,
    }  # fmt: skip


def in_order() -> Picture:
    """One lease runs on the device that another was suspended from, one waits, one is over."""
    usual = ("queued", "placed", "starting", "running")
    rows: Rows = {
        "lease": [
            lease(RUNS, "running", workspace_id=SPACE),
            lease(RESTS, "suspended", kept_node_id=NODE, kept_container=name(RESTS)),
            lease(WAITS, "queued", rank=0, blockers=["no room"]),
            lease(OVER, "ended", reason="released", ended_at=NOW),
        ],
        "run": [run(RUNS, 1, released_at=None), run(RESTS, 2), run(OVER, 3)],
        "allocation": [allocation(RUNS, 1), allocation(RESTS, 2, released_at=NOW - timedelta(minutes=2))],
        "event": [
            *events(RUNS, *usual),
            *events(RESTS, *usual, "stopping", "suspended"),
            *events(WAITS, "queued"),
            *events(OVER, *usual, "stopping", "ended"),
        ],
        "node": [{"id": NODE, "name": "one", "health": "ready", "health_reason": ""}],
        "node_usage": [{"node_id": NODE, "cpus_millis": 600, "memory_bytes": 100}],
        "device": [{"id": DEVICE, "uuid": "GPU-1", "cleared_at": NOW - timedelta(minutes=1)}],
        "device_usage": [
            {"device_id": DEVICE, "share": 1000, "share_used": 1000, "memory_bytes": 40,
             "released_at": NOW - timedelta(minutes=2)},
        ],
        "workspace": [{"id": SPACE, "name": "data", "node_id": NODE, "deleted_at": None}],
        "device_hour": [sealed(0), sealed(1)],
    }  # fmt: skip
    engine = Engine(
        boxes=[box(RUNS, 1), box(RESTS, 2, "exited")],
        networks=[f"leasing-{OWN}-{RUNS.hex[:12]}"],
        volumes=[f"leasing-{OWN}-ws-{SPACE.hex[:12]}"],
        kept=[f"leasing/kept-{OWN}-{RESTS.hex[:12]}:2"],
    )
    return Picture(OWN, rows, {"one": engine})


def changed(table: str, number: int, **facts: Any) -> Callable[[Picture], Picture]:
    def change(picture: Picture) -> Picture:
        found = list(picture[table])
        found[number] = {**found[number], **facts}
        return dataclasses.replace(picture, rows={**picture.rows, table: found})

    return change


def added(table: str, *more: dict[str, Any]) -> Callable[[Picture], Picture]:
    return lambda picture: dataclasses.replace(
        picture, rows={**picture.rows, table: [*picture[table], *more]}
    )


def on_engine(**facts: Any) -> Callable[[Picture], Picture]:
    def change(picture: Picture) -> Picture:
        engine = dataclasses.replace(picture.engines["one"], **facts)
        return dataclasses.replace(picture, engines={"one": engine})

    return change


def both(*changes: Callable[[Picture], Picture]) -> Callable[[Picture], Picture]:
    def change(picture: Picture) -> Picture:
        for one in changes:
            picture = one(picture)
        return picture

    return change


WARNED = added("notice", {"lease_id": OVER, "kind": "idle"})
LOST = changed("lease", 3, reason="lost")

MUTATIONS: list[tuple[Invariant, Callable[[Picture], Picture]]] = [
    (always.allocations_fit_their_device, added("allocation", allocation(RUNS, 1, share=1))),
    (always.usage_rows_are_the_sums, changed("device_usage", 0, share_used=0)),
    (always.runs_fit_their_node, added("run", run(WAITS, 4, released_at=None))),
    (always.containers_fit_their_devices, on_engine(boxes=[box(RUNS, 1), box(RESTS, 2)])),
    (always.containers_fit_their_devices, on_engine(boxes=[box(RUNS, 1), box(OVER, 2, "paused")])),
    (always.open_runs_belong_to_who_holds, changed("run", 1, released_at=None)),
    (always.open_runs_belong_to_who_holds, changed("run", 0, released_at=NOW)),
    (always.allocations_end_with_their_run, changed("allocation", 1, released_at=None)),
    (always.events_tell_the_state, changed("event", 3, to_state="ended")),
    (always.events_tell_the_state, changed("event", 2, from_state="queued")),
    (always.events_tell_the_state, changed("lease", 1, state="queued")),
    (always.events_tell_the_state, added("lease", lease(UUID(int=9), "queued"))),
    (always.an_end_has_its_reason, changed("lease", 3, reason=None)),
    (always.devices_were_proven_clean, changed("device", 0, cleared_at=NOW - timedelta(minutes=3))),
    (always.devices_were_proven_clean, changed("device", 0, cleared_at=None)),
    (always.containers_are_fenced, on_engine(boxes=[box(RUNS, 1, Privileged=True)])),
    (always.containers_are_fenced, on_engine(boxes=[box(RUNS, 1, NetworkMode="host")])),
    (always.containers_are_fenced, on_engine(boxes=[box(RUNS, 1, Binds=["/:/host"])])),
    (always.containers_are_fenced, on_engine(boxes=[box(RUNS, 1, CapDrop=None)])),
    (always.networks_are_not_shared,
     on_engine(boxes=[box(RUNS, 1), box(WAITS, 4, NetworkMode=f"leasing-{OWN}-{RUNS.hex[:12]}")])),
    (always.nobody_is_reclaimed_unknown_or_unwarned, changed("lease", 3, reason="idle", idle_verdict="idle")),
    (always.nobody_is_reclaimed_unknown_or_unwarned,
     both(WARNED, changed("lease", 3, reason="idle", idle_verdict="unknown"))),
    (at_rest.nodes_are_ready, changed("node", 0, health="unreachable")),
    (at_rest.nodes_are_ready, lambda picture: dataclasses.replace(picture, engines={})),
    (at_rest.nothing_is_under_way, changed("lease", 0, state="stopping")),
    (at_rest.running_leases_have_their_container, on_engine(boxes=[box(RESTS, 2, "exited")])),
    (at_rest.running_leases_have_their_container, on_engine(boxes=[box(RUNS, 1, "exited")])),
    (at_rest.containers_have_their_row, on_engine(boxes=[box(RUNS, 1), box(OVER, 3, "exited")])),
    (at_rest.containers_have_their_row, on_engine(boxes=[box(RUNS, 1), box(RUNS, 4, "exited", generation=2)])),
    (at_rest.containers_have_their_row, changed("lease", 1, state="ended")),
    (at_rest.containers_have_their_row, both(LOST, on_engine(boxes=[box(RUNS, 1), box(OVER, 3)]))),
    (at_rest.networks_have_their_row, on_engine(networks=[f"leasing-{OWN}-{OVER.hex[:12]}"])),
    (at_rest.suspended_leases_keep_their_files, on_engine(boxes=[box(RUNS, 1)])),
    (at_rest.suspended_leases_keep_their_files, on_engine(boxes=[box(RUNS, 1), box(RESTS, 2)])),
    (at_rest.suspended_leases_have_files, changed("lease", 1, kept_container=None)),
    (at_rest.workspaces_are_there, on_engine(volumes=[])),
    (at_rest.kept_images_are_wanted, on_engine(kept=[f"leasing/kept-{OWN}-{OVER.hex[:12]}:2"])),
    (at_rest.waiting_leases_know_why, changed("lease", 2, blockers=[])),
    (at_rest.waiting_leases_know_why, changed("lease", 2, rank=None)),
    (at_rest.places_in_the_order_are_distinct, added("lease", lease(UUID(int=9), "queued", rank=0))),
    (at_rest.seconds_sum_to_capacity, changed("device_hour", 0, free=10)),
    (at_rest.seconds_sum_to_capacity, added("device_hour", sealed(3))),
]  # fmt: skip


@pytest.mark.parametrize("invariant", [*ALWAYS, *AT_REST], ids=lambda one: one.__name__)
def test_what_is_in_order_is_found_to_be(invariant: Invariant) -> None:
    assert list(invariant(in_order())) == []


@pytest.mark.parametrize("invariant", AT_REST, ids=lambda one: one.__name__)
def test_what_was_lost_and_is_there_again_may_stay(invariant: Invariant) -> None:
    boxes = [box(RUNS, 1), box(RESTS, 2, "exited"), box(OVER, 3, "exited")]
    kept = [f"leasing/kept-{OWN}-{OVER.hex[:12]}:2"]
    assert list(invariant(both(LOST, on_engine(boxes=boxes, kept=kept))(in_order()))) == []


@pytest.mark.parametrize(("invariant", "change"), MUTATIONS, ids=lambda one: getattr(one, "__name__", ""))
def test_what_is_wrong_is_found(invariant: Invariant, change: Callable[[Picture], Picture]) -> None:
    assert list(invariant(change(in_order())))


def test_every_invariant_is_shown_to_find_something() -> None:
    assert {invariant for invariant, _ in MUTATIONS} == {*ALWAYS, *AT_REST}
