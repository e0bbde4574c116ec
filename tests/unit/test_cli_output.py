"""What commands print: in a file, on a terminal, as JSON; and when their reader or their user leaves."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from leasing.cli import show
from leasing.cli.app import execute
from tests.support.answering import answering
from tests.support.stack import LEASE
from tests.support.terminal import on_terminal, run

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def lease(name: str = "demo", **facts: object) -> dict[str, Any]:
    """A lease as the api writes it."""
    ask = {
        "gpu": "0", "cpus": 0.5, "memory_bytes": 2**26, "shm_bytes": None, "ttl_seconds": 3600, "until": None,
        "idle_timeout_seconds": None, "command": None, "env": {}, "port": None, "workspace": None, "wait": True,
        "priority": "normal", "preemptible": False, "node": None, "labels": {}, "reservation": None,
        "at_least_seconds": None,
    }  # fmt: skip
    made: dict[str, Any] = {
        "id": "3f0c2b7e-0000-4000-8000-000000000001", "name": name, "state": "running", "goal": None, "reason": None,
        "message": "", "owner": "ada", "project": "default", "image": "base", "request": ask, "devices": [],
        "node": "local", "endpoint_url": None, "progress": "", "created_at": "2026-01-31T12:00:00Z",
        "started_at": None, "ends_at": "2026-01-31T13:00:00Z", "ended_at": None, "exit_code": None,
        "oom_killed": False, "last_log": "", "idle": None, "queue": None, "shared": False,
        "may": ["see", "call", "enter", "change", "release", "share"],
    }  # fmt: skip
    return made | facts


QUEUED = lease(
    state="queued", ends_at=None, queue={"position": 3, "expected_start": None, "blockers": ["full"]}
)


RESTING = lease(
    state="suspended", ends_at=None, suspend_reason="asked", suspended_at="2026-01-31T12:30:00Z",
    message="ada suspended it", node=None,
)  # fmt: skip
GAVE_WAY = RESTING | {
    "state": "queued", "suspend_reason": "preempted", "message": "it gives way to big (priority high)",
    "queue": {"position": 2, "expected_start": None, "blockers": ["full"]},
}  # fmt: skip


def test_what_rests_and_what_gave_way_is_told_apart(signed_in: pytest.MonkeyPatch) -> None:
    page = {"items": [RESTING, GAVE_WAY], "next": None}
    with answering(200, json.dumps(page).encode()) as url:
        _, resting, gave_way = run("ls", LEASING_URL=url).stdout.splitlines()
    assert "suspended" in resting
    assert "1h left" in resting
    assert "gave way, number 2 in the queue" in gave_way
    with answering(200, json.dumps(GAVE_WAY).encode()) as url:
        shown = run("show", "demo", LEASING_URL=url).stdout
    assert "it gives way to big (priority high)" in shown
    assert "goes on when there is room" in shown


def test_suspending_says_what_is_kept_and_how_to_go_on(signed_in: pytest.MonkeyPatch) -> None:
    with answering(200, json.dumps(RESTING).encode()) as url:
        done = run("suspend", "demo", LEASING_URL=url)
        again = run("resume", "demo", LEASING_URL=url)
    assert done.stdout == (
        "demo is suspended; its files and the time it has left are kept.\n  Go on: lease resume demo\n"
    )
    assert again.returncode == 1
    assert "demo is suspended: ada suspended it" in again.stderr
    with answering(200, json.dumps(GAVE_WAY).encode()) as url:
        detached = run("resume", "demo", "--detach", LEASING_URL=url)
    assert detached.stdout.startswith("demo is queued, number 2")


def test_in_a_file_there_is_no_colour_and_no_animation(signed_in: pytest.MonkeyPatch) -> None:
    page = {"items": [lease(), lease("second", state="ended", reason="released")], "next": None}
    with answering(200, json.dumps(page).encode()) as url:
        done = run("ls", "--all", LEASING_URL=url)
    assert done.returncode == 0
    assert "\033" not in done.stdout
    head, first, second = done.stdout.splitlines()
    assert head.split() == ["NAME", "STATE", "GPU", "CPUS", "MEMORY", "ENDS", "IMAGE"]
    assert first.index("running") == second.index("ended") == head.index("STATE")
    with answering(
        200, json.dumps(lease(state="ended", reason="failed", message="It fell.")).encode()
    ) as url:
        done = run("up", "demo", LEASING_URL=url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "It fell." in done.stderr
    assert "\033" not in done.stderr
    assert "\r" not in done.stderr


def test_what_lies_idle_is_told_in_the_list_for_how_long(signed_in: pytest.MonkeyPatch) -> None:
    idle = {"verdict": "idle", "seconds": 754.0, "reason": "GPU quiet for 12m"}
    page = {"items": [lease(), lease("forgotten", idle=idle)], "next": None}
    with answering(200, json.dumps(page).encode()) as url:
        head, busy, forgotten = run("ls", LEASING_URL=url).stdout.splitlines()
    assert head.split() == ["NAME", "STATE", "GPU", "CPUS", "MEMORY", "IDLE", "ENDS", "IMAGE"]
    at = head.index("IDLE")
    assert (busy[at:].split()[0], forgotten[at:].split()[0]) == ("-", "12m34s")


def test_on_a_narrow_terminal_lines_fit_and_states_stand_out(signed_in: pytest.MonkeyPatch) -> None:
    page = {"items": [lease("running", image="x" * 100), QUEUED], "next": None}
    with answering(200, json.dumps(page).encode()) as url:
        for columns in (20, 40, 80):
            code, shown = on_terminal(["ls"], columns=columns, LEASING_URL=url)
            assert code == 0
            for line in re.sub(r"\033\[\d*m", "", shown).splitlines():
                assert len(line) <= columns
        code, shown = on_terminal(["ls"], NO_COLOR="1", LEASING_URL=url)
        assert "\033" not in shown
        code, shown = on_terminal(["ls"], LEASING_URL=url)
        assert "\033[33mqueued\033[0m" in shown


def test_no_control_character_of_others_reaches_the_terminal(
    signed_in: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = lease(message="a\033[2Jb", image="c\rd", last_log="e\033]0;f\007\n")
    evil["request"]["command"] = ["sh", "-c", "one\ntwo"]
    with answering(200, json.dumps(evil).encode()) as url:
        signed_in.setenv("LEASING_URL", url)
        assert execute(["show", "x"]) == 0
    out = capsys.readouterr().out
    assert "sh -c one two" in out
    assert not re.search(r"[^\n -~]", out)


def test_json_is_what_the_api_says_unknown_fields_too(
    signed_in: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = lease(state="hibernating", moon="new")
    with answering(200, json.dumps(newer).encode()) as url:
        signed_in.setenv("LEASING_URL", url)
        assert execute(["show", "x", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == newer
        assert execute(["show", "x"]) == 0
        assert "demo is hibernating" in capsys.readouterr().out
    with answering(200, json.dumps({"items": [newer], "next": None}).encode()) as url:
        signed_in.setenv("LEASING_URL", url)
        assert execute(["ls"]) == 0
        assert "hibernating" in capsys.readouterr().out


def test_a_reader_that_leaves_ends_it_quietly(signed_in: pytest.MonkeyPatch) -> None:
    page = {"items": [lease(f"n{number}") for number in range(5000)], "next": None}
    with answering(200, json.dumps(page).encode()) as url:
        signed_in.setenv("LEASING_URL", url)
        done = subprocess.run(
            f"{LEASE} ls | head -1", shell=True, capture_output=True, text=True, check=True, timeout=30
        )
    assert done.stdout.startswith("NAME")
    assert done.stderr == ""


def test_ctrl_c_at_up_stops_watching_and_says_how_to_go_on(signed_in: pytest.MonkeyPatch) -> None:
    with answering(200, json.dumps(QUEUED).encode()) as url:
        code, shown = on_terminal(["up", "demo"], until="number 3", interrupt=True, LEASING_URL=url)
        assert code == 130
        assert "demo keeps its place" in shown
        assert "lease show demo" in shown
        assert "Traceback" not in shown


def test_ctrl_c_at_up_for_a_program_still_says_which_lease_it_is(
    signed_in: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    signed_in.setattr("leasing.cli.up.time.sleep", interrupted)
    with answering(200, json.dumps(QUEUED).encode()) as url:
        signed_in.setenv("LEASING_URL", url)
        assert execute(["up", "demo", "--json"]) == 130
    said = capsys.readouterr()
    assert json.loads(said.out)["name"] == "demo"
    assert "keeps its place" in said.err


def test_times_are_said_as_people_say_them() -> None:
    assert show.moment(None) == "-"
    assert show.moment(NOW + timedelta(hours=1, minutes=42), now=NOW).startswith("in 1h42m (")
    assert show.moment("2026-01-31T11:57:00Z", now=NOW).startswith("3m ago (")
    assert re.fullmatch(r"in 2d \(\w+ \d\d \w+ \d\d:\d\d\)", show.moment(NOW + timedelta(days=2), now=NOW))


def test_when_it_will_start_is_said_in_one_way() -> None:
    def said(likely: int | None, latest: int | None) -> str:
        at = {
            key: None if minutes is None else (NOW + timedelta(minutes=minutes)).isoformat()
            for key, minutes in (("expected_start", likely), ("latest_start", latest))
        }
        return show.expected(at, now=NOW)

    def clock(minutes: int) -> str:
        return f"{(NOW + timedelta(minutes=minutes)).astimezone():%H:%M}"

    assert said(40, 90) == f"in 40m ({clock(40)}), by {clock(90)} at the latest"
    assert said(40, 40) == said(40, None) == f"in 40m ({clock(40)})"
    assert said(None, 90) == f"by {clock(90)} at the latest"
    assert said(None, None) == ""
    assert said(-1, None) == "at any moment"


def test_queue_why_and_show_say_the_same_of_a_start(signed_in: pytest.MonkeyPatch) -> None:
    start = {
        key: (datetime.now(UTC) + timedelta(minutes=minutes, seconds=30)).isoformat()
        for key, minutes in (("expected_start", 40), ("latest_start", 90))
    }
    entry = {
        "position": 3, "lease": "demo", "owner": "ada", "project": "vision", "priority": "high", "gpu": "1",
        "cpus": 1, "memory_bytes": 2**30, "queued_at": "2026-01-31T12:00:00Z", "blockers": ["full"], **start,
    }  # fmt: skip
    past = {
        "days": 30, "forecasts": 12, "median_error_seconds": 372.4, "bias_seconds": -60.0, "by_latest_ratio": 0.957,
    }  # fmt: skip
    waits = {"summary": "It waits.", "state": "queued", "position": 3, "blockers": ["full"], **start}
    waiting = lease(state="queued", ends_at=None, queue={"position": 3, "blockers": ["full"], **start})
    for command, answer in (
        (("queue",), {"items": [entry], "accuracy": past}),
        (("why", "demo"), waits),
        (("show", "demo"), waiting),
    ):
        with answering(200, json.dumps(answer).encode()) as url:
            shown = run(*command, LEASING_URL=url).stdout
        assert re.search(r"in 40m \(.*\d\d:\d\d\), by .*\d\d:\d\d at the latest", shown), shown
        accuracy = "Forecasts of the last 30 days: half within 6m12s; 96% started by the latest time told."
        assert (accuracy in shown) == (command == ("queue",))
        assert ("ada (vision, high)" in shown) == (command == ("queue",))


def test_offers_say_when_the_next_device_frees(signed_in: pytest.MonkeyPatch) -> None:
    def frees(minutes: int) -> dict[str, Any]:
        at = datetime.now(UTC) + timedelta(minutes=minutes, seconds=5)
        return {"at": at.isoformat(), "model": "A100", "count": 2}

    offers = [
        {
            "node": node, "cpus_free": 1, "cpus": 2, "memory_free_bytes": 2**30, "memory_bytes": 2**31,
            "devices_free": {}, "devices_total": {"A100": 8}, "parts_free": [], "frees": [frees(soon), frees(600)],
        }
        for node, soon in (("one", 90), ("two", 25))
    ]  # fmt: skip
    with answering(200, json.dumps({"items": offers, "queue_depth": 0}).encode()) as url:
        shown = run("offers", LEASING_URL=url).stdout.splitlines()
    assert len(shown) == 4
    assert re.fullmatch(r"The next A100 frees in 25m.* \(.*\d\d:\d\d\) on two, at the latest\.", shown[3])
