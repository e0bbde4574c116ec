"""`lease admin policy` against a real api: setting, showing, trying on the record; who may, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from leasing import Client, errors
from leasing.cli.app import execute
from leasing.states import Role
from tests.support.activity import story
from tests.support.api import Served, served, token
from tests.support.cluster import Cluster

MINUTE = timedelta(minutes=1)
Typed = Callable[..., str]


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[Served]:
    with Cluster.opened(database_url, devices=4) as cluster, served(cluster, tmp_path) as made:
        yield made


@pytest.fixture
def lease(api: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """The command as an admin: what it prints, and with which code it ends."""
    monkeypatch.setenv("LEASING_URL", api.url)
    monkeypatch.setenv("LEASING_TOKEN", api.user("root", Role.ADMIN))
    monkeypatch.setenv("COLUMNS", "200")

    def typed(*words: str, code: int = 0) -> str:
        assert execute(list(words)) == code, capsys.readouterr()
        said = capsys.readouterr()
        return said.out + said.err

    return typed


def test_a_policy_is_set_shown_and_removed(lease: Typed) -> None:
    head, only = lease("admin", "policy", "ls").splitlines()
    assert head.split()[:3] == ["NAME", "FOR", "IDLE"]
    assert only.split() == ["platform", "all", "leases", "1h", "suspend", "15m,", "5m", "-", "-"]
    said = lease(
        "admin", "policy", "set", "notebooks", "--environment", "team/lab:1", "--window", "30m", "--warn", "10m",
        "--longest", "8h", "--hours", "fri-mon 09:00-18:00 Europe/Berlin", "--threshold", "gpu=0.1",
        "--retention", "0s",
    )  # fmt: skip
    first, *facts = said.splitlines()
    assert first == "Policy notebooks: suspended after 30m idle, warned 10m before"
    found = dict(line.strip().split("  ", 1) for line in facts)
    assert {key: value.strip() for key, value in found.items()} == {
        "for": "environment team/lab:1",
        "says itself": "window, longest, thresholds, warnings, hours, retention",
        "longest": "8h",
        "thresholds": "gpu 0.1",
        "grace": "10m",
        "hours": "mon,fri,sat,sun 09:00-18:00 Europe/Berlin",
        "protected": "10m",
        "files kept": "for ever",
    }
    assert lease("admin", "policy", "show", "notebooks") == said
    one = json.loads(lease("admin", "policy", "show", "notebooks", "--json"))
    assert (one["subject"], one["window_seconds"]) == ("environments/team/lab:1", 1800)
    assert [row.split()[0] for row in lease("admin", "policy").splitlines()[1:]] == ["platform", "notebooks"]
    assert lease("admin", "policy", "rm", "notebooks") == "Policy notebooks is gone.\n"
    assert "ls shows what there is" in lease("admin", "policy", "show", "notebooks", code=5)


def test_what_is_refused_names_the_limit_and_a_way_out(lease: Typed) -> None:
    for words, said in (
        (["--window", "1s"], "out of range: 1m to 366d"),
        (["--warn", "5m,15m"], "--warn 15m,5m"),
        (["--hours", "always"], "mon-fri 09:00-18:00 Europe/Berlin"),
        (["--hours", "mon 09:00-18:00 Mars"], "no time zone"),
        (["--threshold", "mood=1"], "endpoint"),
    ):
        refusal = lease("admin", "policy", "set", "house", *words, code=2)
        assert said in refusal, refusal
    assert "no project" in lease("admin", "policy", "set", "house", "--project", "nowhere", code=5)
    assert "no such option" in lease("admin", "policy", "set", "house", "--forever", code=2).lower()


def test_only_admins_set_and_list_and_an_owner_reads_what_counts(api: Served, lease: Typed) -> None:
    made = api.cluster.ask()
    lease("admin", "policy", "set", "own", "--lease", made.name, "--window", "2h", "--action", "end")
    with Client(api.url, token(api.cluster, api.cluster.ada)) as ada:
        for refused in (
            ada.admin.policies,
            lambda: ada.admin.policy("own"),
            lambda: ada.admin.set_policy("own"),
            lambda: ada.admin.remove_policy("own"),
            lambda: list(ada.admin.activity()),
        ):
            with pytest.raises(errors.NotAllowed):
                refused()
        said = "policy own: ended after 2h idle, warned 15m and 5m before"
        counts = ada.lease(made.name).facts.policy
        assert counts is not None
        assert counts.said == said
    assert said in lease("show", made.name)
    assert lease("why", made.name).splitlines()[-1] == f"By {said}."


def test_malformed_and_hostile_payloads_are_422_or_named(api: Served) -> None:
    headers = {"Authorization": f"Bearer {api.user('root', Role.ADMIN)}"}
    at = f"{api.url}/api/v1/policies"
    bodies: list[object] = [
        {"window_seconds": "soon"}, {"window_seconds": 10**30}, {"warnings": [1] * 1000},
        {"thresholds": {"gpu": "NaN"}}, {"surprise": 1}, {"hours": {"days": []}}, {"project": "a\0b"},
        {"warnings": [1.5]}, [],
    ]  # fmt: skip
    for body in bodies:
        found = httpx.put(f"{at}/house", headers=headers, json=body)
        assert found.status_code == 422, (body, found.text)
    assert httpx.put(f"{at}/Robert'); DROP", headers=headers, json={}).status_code == 422
    assert [one["name"] for one in httpx.get(at, headers=headers).json()["items"]] == ["platform"]
    for query, status in (
        ("days=0", 422),
        ("cursor=moon", 422),
        ("project=nowhere", 404),
        ("limit=1000", 422),
    ):
        assert httpx.get(f"{api.url}/api/v1/activity?{query}", headers=headers).status_code == status


def test_a_policy_is_tried_on_the_record_and_on_a_series(api: Served, lease: Typed, tmp_path: Path) -> None:
    cluster = api.cluster
    busy, idle = cluster.run(gpu="2", name="busy"), cluster.run(gpu="1", name="idle", idle_timeout="2h")
    story(cluster, busy, "x" * 20 + "." * 45 + "x" * 20)
    story(cluster, idle, "x" * 20 + "." * 180)
    words = ("admin", "policy", "simulate", "--window", "30m", "--warn", "10m", "--days", "1", "--json")
    told = json.loads(lease(*words))
    assert told["policy"] == "policy tried: suspended after 30m idle, warned 10m before"
    assert (told["as_it_is"]["taken"], told["as_tried"]["taken"]) == (1, 2), (
        "2h were asked for and count in both"
    )
    found = told["leases"]["busy"]["as_tried"]
    assert (found["returned_device_hours"], found["woken"], found["surprised"]) == (0.5, 1, 1)
    [one] = found["times"]
    assert one["back_at"] is not None
    assert len(one["warned_at"]) == 1
    assert told["owners"]["ada"]["as_tried"]["returned_device_hours"] == pytest.approx(0.5 + 1.0)
    assert "busy" in lease(
        "admin", "policy", "simulate", "--window", "30m", "--days", "1", "--surprise", "10m"
    )

    (tmp_path / "policy.json").write_text(
        '{"window_seconds": 1800, "warnings": [600], "name": "x", "set": []}'
    )
    same = ("admin", "policy", "simulate", "--policy", str(tmp_path / "policy.json"), "--days", "1", "--json")
    assert json.loads(lease(*same)) == told

    (tmp_path / "series.csv").write_text(lease("admin", "policy", "samples", "--days", "1"))
    played = json.loads(lease(*words, "--series", str(tmp_path / "series.csv")))
    assert played["leases"].keys() == {str(one.id)[:8] for one in (busy, idle)}
    assert played["as_tried"]["taken"] == 2

    (tmp_path / "series.csv").write_text("pod,seconds,duty_percent\n")
    empty = ("admin", "policy", "simulate", "--window", "30m", "--series", str(tmp_path / "series.csv"))
    assert lease(*empty).startswith("Nothing is recorded")
    assert "--window 30m" in lease("admin", "policy", "simulate", code=2)
    (tmp_path / "policy.json").write_text("no")
    assert "is not JSON" in lease(*same, code=2)


def test_the_record_comes_in_pages_and_of_one_project(api: Served) -> None:
    cluster = api.cluster
    names = [f"lease-{number}" for number in range(3)]
    for name in names:
        story(cluster, cluster.run(name=name), "x.?.")
    headers = {"Authorization": f"Bearer {api.user('pager', Role.ADMIN)}"}
    first = httpx.get(f"{api.url}/api/v1/activity?limit=2", headers=headers).json()
    second = httpx.get(f"{api.url}/api/v1/activity?limit=2&cursor={first['next']}", headers=headers).json()
    assert second["next"] is None
    assert [one["name"] for one in (*first["items"], *second["items"])] == names
    [run] = second["items"][0]["runs"]
    assert run["peaks"]["cpu"] == [0.0, 0.0, None, 0.0]
    project = second["items"][0]["project"]
    only = httpx.get(f"{api.url}/api/v1/activity?project={project}", headers=headers).json()
    assert len(only["items"]) == 3
