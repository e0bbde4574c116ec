"""A policy tried on small worlds of which everybody can say what must come out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from uuid import uuid5

import pytest

from leasing.cli.app import execute
from leasing.errors import Invalid
from leasing.gpus import WHOLE, parse_gpu
from scheduler.policy.planner import Policy
from scheduler.policy.snapshot import Device, Node, Request
from scheduler.simulation import openb, recorded, report
from scheduler.simulation.play import Played, play
from scheduler.simulation.world import SPACE, Asked, Options, World, with_nodes

HOUR = 3600.0
GIB = 2**30


def node(name: str, devices: int) -> Node:
    return Node(
        uuid5(SPACE, name),
        name,
        64_000,
        256 * GIB,
        tuple(
            Device(uuid5(SPACE, f"{name}{n}"), f"GPU-{name}{n}", n, "A100", 40 * GIB, WHOLE, 40 * GIB)
            for n in range(devices)
        ),
    )


def asked(name: str, at: float, ran: float, gpu: str = "1", **facts: object) -> Asked:
    one = Asked(
        uuid5(SPACE, f"lease {name}"),
        name,
        "ada",
        "a",
        "base",
        Request(parse_gpu(gpu), 1000, GIB),
        WHOLE,
        at,
        ran,
        ran,
    )
    return replace(one, **facts)  # type: ignore[arg-type]  # fields by name


def world(*leases: Asked, devices: int = 1, weights: dict[str, float] | None = None) -> World:
    return World([node("n", devices)], leases, weights or {}, 0.0, 10 * HOUR)


def starts(played: Played) -> dict[str, float | None]:
    return {one.asked.name: one.started for one in played.served}


def test_one_device_serves_three_leases_one_after_the_other() -> None:
    played = play(world(asked("x", 0, HOUR), asked("y", 60, HOUR), asked("z", 120, HOUR)), Options())
    assert starts(played) == {"x": 0, "y": HOUR, "z": 2 * HOUR}
    assert [one.waited for one in played.served] == [0, HOUR - 60, 2 * HOUR - 120]
    assert played.used == {"a": 3 * HOUR}
    assert played.capacity == 10 * HOUR


def test_backfill_lets_a_short_one_go_ahead_and_without_it_nobody_does() -> None:
    leases = (
        asked("x", 0, 2 * HOUR), asked("both", 60, HOUR, gpu="2"), asked("short", 120, HOUR),
    )  # fmt: skip
    small = world(*leases, devices=2)
    assert starts(play(small, Options())) == {"x": 0, "both": 2 * HOUR, "short": 120}
    without = Options(Policy(backfill=False))
    assert starts(play(small, without)) == {"x": 0, "both": 2 * HOUR, "short": 3 * HOUR}


def test_fair_share_lets_the_project_that_has_had_nothing_go_first() -> None:
    leases = [asked(f"a{n}", n, HOUR) for n in range(3)] + [asked("b", 10, HOUR, project="b")]
    small = world(*leases, weights={"a": 1.0, "b": 1.0})
    assert starts(play(small, Options()))["b"] == HOUR
    assert starts(play(small, Options(Policy(fair_share=False))))["b"] == 3 * HOUR


@pytest.mark.parametrize("wait", [True, False])
def test_a_preempted_lease_waits_again_and_goes_on_for_the_rest(wait: bool) -> None:
    """Also one that would not have waited for its first start."""
    small = world(
        asked("gives way", 0, 2 * HOUR, preemptible=True, wait=wait), asked("urgent", HOUR, HOUR, priority=1)
    )
    first, urgent = play(small, Options()).served
    assert (urgent.started, urgent.waited) == (HOUR, 0)
    assert (first.preempted, first.waited, first.ended) == (1, HOUR, 3 * HOUR)
    without = play(small, Options(Policy(preemption=False)))
    assert starts(without)["urgent"] == 2 * HOUR


def test_an_idle_lease_ends_sooner_and_no_lease_is_made_longer() -> None:
    leases = (asked("idle", 0, 3 * HOUR, quiet_seconds=2 * HOUR), asked("next", 0, HOUR))
    assert starts(play(world(*leases), Options()))["next"] == 3 * HOUR
    assert starts(play(world(*leases), Options(idle_seconds=1800)))["next"] == 1.5 * HOUR
    assert starts(play(world(*leases), Options(idle_seconds=9 * HOUR)))["next"] == 3 * HOUR
    assert starts(play(world(*leases), Options(most_seconds=HOUR)))["next"] == HOUR


def test_a_lease_that_was_idle_for_longer_than_it_ran_ends_as_soon_as_any_other() -> None:
    """Of one whose node was away, the record has an end long after the last moment at which it held anything."""
    leases = (asked("idle", 0, HOUR, quiet_seconds=3 * HOUR), asked("next", 0, HOUR))
    assert starts(play(world(*leases), Options(idle_seconds=1800)))["next"] == 0.5 * HOUR
    assert starts(play(world(*leases), Options(idle_seconds=2 * HOUR)))["next"] == HOUR


def test_who_is_refused_and_why() -> None:
    leases = (
        asked("x", 0, HOUR), asked("large", 1, HOUR, gpu="2"), asked("greedy", 2, HOUR),
        asked("now", 3, HOUR, owner="eve", wait=False),
    )  # fmt: skip
    played = play(world(*leases), Options(devices_per_user=1))
    assert {one.asked.name: one.refused for one in played.served} == {
        "x": None, "large": "over quota", "greedy": "over quota", "now": "would not wait",
    }  # fmt: skip
    assert play(world(*leases), Options()).served[1].refused == "never fits"


def test_the_report_says_how_long_and_to_whom() -> None:
    small = world(asked("x", 0, HOUR), asked("y", 0, HOUR, owner="eve", project="b"))
    before, after = play(small, Options()), play(with_nodes(small, 2), Options())
    told = report.told(small, before)
    assert (told.waits.mean, told.waits.p99, told.utilisation) == (HOUR / 2, HOUR, 0.2)
    assert {name: of.part for name, of in told.projects.items()} == {"a": 0.5, "b": 0.5}
    (one,) = report.leases(small, before, after)
    assert (one.name, one.as_it_is, one.as_tried) == ("y", HOUR, 0)
    assert [one.name for one in report.owners(small, before, after)] == ["eve"]


NODES = "sn,cpu_milli,memory_mib,gpu,model\nn1,8000,65536,1,T4\n"
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time\n"


def folder(path: Path, nodes: str, pods: str) -> Path:
    (path / openb.NODES).write_text(nodes)
    (path / openb.PODS.format("default")).write_text(PODS + pods)
    return path


def test_a_public_trace_is_read(tmp_path: Path) -> None:
    found = openb.world(
        folder(tmp_path, NODES, "p1,1000,1024,1,460,,LS,Running,0,100\np2,1,1,0,0,,BE,Failed,5,5\n")
    )
    assert [(one.name, one.devices, one.ran_seconds) for one in found.asked] == [
        ("p1", 0.46, 100),
        ("p2", 0, 1),
    ]
    assert found.devices == 1


@pytest.mark.parametrize(
    ("nodes", "pods", "said"),
    [
        (NODES, "", "is empty"),
        (NODES.replace("model", "kind"), "x", "has no column model"),
        (
            NODES,
            "p1,1000,1024,1,460,,LS,Running,0,100\np2,many,1,1,1,,LS,Running,0,1\n",
            "line 3: cpu_milli is 'many'",
        ),
        (NODES, "p1,1000,1024,1,4600,,LS,Running,0,100\n", "line 2: nobody can have that much"),
        (NODES, "p1,1000\n", "line 2: num_gpu is None"),
    ],
)
def test_a_malformed_trace_is_refused_by_its_line(tmp_path: Path, nodes: str, pods: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        openb.world(folder(tmp_path, nodes, pods))


HEAD = '{"kind": "history", "since": "2026-01-01T00:00:00+00:00", "until": "2026-01-31T00:00:00+00:00"}'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "no line that says of which time"),
        ([HEAD, "{"], "Line 2 is not JSON"),
        ([HEAD, '{"kind": "moon"}'], "Line 2 is none of history, node"),
        ([HEAD, '{"kind": "project", "name": "a", "weight": 1, "moon": 2}'], "Line 2 has a field .* known: moon"),
        ([HEAD, '{"kind": "project", "name": "a", "weight": "much"}'], "Line 2, weight"),
        (['{"kind": "history", "since": "soon"}'], "Line 1 does not say since"),
    ],
)  # fmt: skip
def test_a_malformed_record_is_refused_by_its_line(lines: list[str], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        recorded.read(lines)


def test_an_empty_record_says_what_to_try(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "record").write_text(HEAD)
    assert execute(["admin", "simulate", "--trace", str(tmp_path / "record")]) == 2
    said = capsys.readouterr().err
    assert "Nothing is recorded yet." in said
    assert "--trace FOLDER" in said


def test_the_command_plays_a_trace_without_a_server(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path, NODES, "p1,1,1,1,1000,,LS,Running,0,100\np2,1,1,1,1000,,LS,Running,40,140\n")
    command = ["admin", "simulate", "--trace", str(tmp_path), "--more-nodes", "1"]
    assert execute(command) == 0
    said = capsys.readouterr().out
    assert "2 leases" in said
    assert "MOST AFFECTED OWNER" in said
    assert execute([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["as_it_is"]["waits"]["mean"], told["as_tried"]["waits"]["mean"]) == (30, 0)


def test_the_command_foretells_what_will_be_asked_for(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a fortnight, each day at nine three are asked for, and nothing else."""
    pods = "".join(
        f"p{day}-{number},1,1,1,1000,,LS,Running,{day * 86_400 + 9 * 3600},{(day + 1) * 86_400}\n"
        for day in range(14)
        for number in range(3)
    )
    folder(tmp_path, NODES, pods)
    assert execute(["admin", "demand", "--trace", str(tmp_path), "--json"]) == 0
    hours = json.loads(capsys.readouterr().out)
    assert len(hours) == 24
    assert max(hours, key=lambda one: one["requests"])["at"].endswith("T09:00:00+00:00")
    assert 2 < sum(one["requests"] for one in hours) < 4
    assert execute(["admin", "demand", "--trace", str(tmp_path)]) == 0
    assert "BUSIEST HOUR" in capsys.readouterr().out
