"""What the commands for projects, quotas and labels print and ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from leasing.cli.app import execute
from leasing.sdk.transport import Transport
from tests.support.answering import answering
from tests.support.terminal import on_terminal

VISION: dict[str, Any] = {
    "name": "vision", "role": "owner", "open": False, "weight": 2.0, "top_priority": "high",
    "members": [{"user": "ada", "role": "owner"}, {"user": "bob", "role": "viewer"}],
    "used_device_hours": 12.345, "devices": 1.5, "due_ratio": 0.667, "created_at": "2026-01-31T12:00:00Z",
}  # fmt: skip
DEFAULT = VISION | {
    "name": "default", "role": None, "open": True, "weight": 1.0, "members": [], "due_ratio": None,
}  # fmt: skip
QUOTA: dict[str, Any] = {
    "subject": "users/ada", "own": True, "max_devices": 1.5, "devices": 0.5, "max_leases": 50, "leases": 2,
    "device_hours": 100.0, "window_hours": 168, "used_device_hours": 40.0, "to_come_device_hours": 12.5,
    "frees_at": "2026-02-03T12:00:00Z",
}  # fmt: skip


@pytest.fixture
def said(signed_in: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command prints on an answer, and the calls that it makes."""
    calls: list[tuple[Any, ...]] = []
    call = Transport.call

    def noting(self: Transport, method: str, path: str, **arguments: Any) -> Any:
        calls.append((method, path, arguments.get("json")))
        return call(self, method, path, **arguments)

    signed_in.setattr(Transport, "call", noting)

    def run(answer: Any, *words: str) -> tuple[int, list[str], list[tuple[Any, ...]]]:
        calls.clear()
        with answering(200, json.dumps(answer).encode()) as url:
            signed_in.setenv("LEASING_URL", url)
            code = execute(list(words))
        printed = capsys.readouterr()
        return code, (printed.out + printed.err).splitlines(), list(calls)

    return run


def cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell]


def test_projects_are_a_line_each(said: Any) -> None:
    code, (_, first, second), _ = said({"items": [DEFAULT, VISION]}, "projects")
    assert code == 0
    stripped = [cell.strip() for cell in cells(first)]
    assert stripped == ["default", "open", "1", "-", "1.5", "12.3", "high", "everybody"]
    assert [cell.strip() for cell in cells(second)] == [
        "vision",
        "owner",
        "2",
        "67%",
        "1.5",
        "12.3",
        "high",
        "2",
    ]
    assert "lease projects add PROJECT USER" in said({"items": []}, "projects", "ls")[1][0]
    page = {"items": [VISION]}
    assert json.loads("".join(said(page, "projects", "ls", "--json")[1])) == page


def test_projects_are_made_changed_and_filled(said: Any) -> None:
    _, lines, calls = said(VISION, "projects", "create", "vision", "--weight", "2", "--top-priority", "high")
    assert calls == [
        ("POST", "/projects", {"name": "vision", "open": False, "weight": 2.0, "top_priority": "high"})
    ]
    assert lines == ["Project vision is made. Let somebody in: lease projects add vision USER --role owner"]
    assert said(VISION, "projects", "set", "vision", "--closed")[2] == [
        ("PATCH", "/projects/vision", {"open": False})
    ]
    code, lines, calls = said(VISION, "projects", "set", "vision")
    assert (code, calls) == (2, [])
    assert "lease projects set vision --weight 2" in lines[1]
    assert said(VISION, "projects", "add", "vision", "bob", "--role", "viewer")[1:] == (
        ["bob is viewer of project vision."],
        [("PUT", "/projects/vision/members/bob", {"role": "viewer"})],
    )
    assert said(None, "projects", "remove", "vision", "bob")[2] == [
        ("DELETE", "/projects/vision/members/bob", None)
    ]
    _, (_, ada, bob), _ = said({"items": [VISION]}, "projects", "members", "vision")
    assert (ada.split(), bob.split()) == (["ada", "owner"], ["bob", "viewer"])
    assert said({"items": [VISION]}, "projects", "members", "speech")[0] == 5


def test_a_quota_says_what_is_left_and_when_more_is(said: Any) -> None:
    code, (_, devices, leases, hours), _ = said({"items": [QUOTA]}, "quota")
    assert code == 0
    assert [cell.strip() for cell in cells(devices)] == ["ada", "GPUs", "1.5", "0.5", "1", "-"]
    assert [cell.strip() for cell in cells(leases)] == ["ada", "live leases", "50", "2", "48", "-"]
    told = [cell.strip() for cell in cells(hours)]
    assert told[:5] == ["ada", "GPU-hours in any 7d", "100", "40.0 used, 12.5 to come", "47.5"]
    assert "ago" in told[5] or "in " in told[5]
    project = QUOTA | {"subject": "projects/vision", "device_hours": None, "max_leases": None}
    assert said({"items": [project]}, "admin", "quotas")[1][1].startswith("project vision  GPUs")
    assert "lease admin quotas set users/ada" in said({"items": []}, "admin", "quotas", "ls")[1][0]


def test_a_quota_is_set_and_cleared(said: Any) -> None:
    set_ = ("admin", "quotas", "set", "users/ada")
    _, _, calls = said(QUOTA, *set_, "--devices", "1.5", "--device-hours", "100", "--window", "7d")
    assert calls == [
        (
            "PUT",
            "/quotas/users/ada",
            {"max_devices": 1.5, "max_leases": None, "device_hours": 100.0, "window_hours": 168},
        )
    ]
    for wrong in (
        [*set_, "--window", "90m", "--device-hours", "1"], [*set_, "--device-hours", "1"],
        ["admin", "quotas", "set", "ada", "--leases", "1"], ["admin", "quotas", "clear", "groups/x"],
    ):  # fmt: skip
        code, lines, calls = said(QUOTA, *wrong)
        assert (code, calls) == (2, []), lines
    assert said(None, "admin", "quotas", "clear", "projects/vision")[2] == [
        ("DELETE", "/quotas/projects/vision", None)
    ]


def test_labels_are_set_and_taken_away(said: Any) -> None:
    node = {"items": [{"name": "a", "labels": {"zone": "b", "disk": "fast"}}]}
    code, lines, calls = said(node, "admin", "nodes", "label", "a", "disk=fast", "old-")
    assert (code, lines) == (0, ["Node a has disk=fast,zone=b."])
    assert calls == [("PATCH", "/nodes/a", {"labels": {"disk": "fast", "old": None}})]
    code, lines, calls = said(node, "admin", "nodes", "label", "a", "fast")
    assert (code, calls) == (2, [])
    assert "disk=fast" in lines[1]


def test_offers_show_labels(said: Any) -> None:
    offer = {
        "node": "a", "labels": {"zone": "b", "disk": "fast"}, "cpus_free": 1.0, "cpus": 2.0, "memory_free_bytes": 2**30,
        "memory_bytes": 2**31, "devices_free": {}, "devices_total": {}, "parts_free": [], "frees": [],
    }  # fmt: skip
    _, lines, _ = said({"items": [offer], "queue_depth": 0}, "offers")
    assert lines[0].split()[-1] == "LABELS"
    assert lines[1].endswith("disk=fast,zone=b")


def test_up_asks_for_what_was_said(said: Any) -> None:
    wishes = (
        "--project", "vision", "--priority", "high", "--preemptible", "--node", "a", "--label", "disk=fast",
        "--label", "zone=b", "--reservation", "demo", "--at-least", "1h",
    )  # fmt: skip
    _, _, calls = said({}, "up", "job", "-d", *wishes)
    sent = calls[0][2]
    assert {key: sent[key] for key in ("project", "priority", "preemptible", "node", "labels")} == {
        "project": "vision", "priority": "high", "preemptible": True, "node": "a",
        "labels": {"disk": "fast", "zone": "b"},
    }  # fmt: skip
    assert (sent["reservation"], sent["at_least"]) == ("demo", "1h")
    code, lines, calls = said({}, "up", "--label", "fast")
    assert (code, calls) == (2, [])
    assert "--label disk=fast" in lines[1]
    assert said({}, "up", "--priority", "royal")[0] == 2


def test_the_tables_fit_a_narrow_terminal(signed_in: pytest.MonkeyPatch) -> None:
    for words, answer in ((["projects"], VISION), (["quota"], QUOTA)):
        with answering(200, json.dumps({"items": [answer]}).encode()) as url:
            _, shown = on_terminal(words, columns=60, NO_COLOR="1", LEASING_URL=url)
        assert all(len(line) <= 60 for line in shown.splitlines())
