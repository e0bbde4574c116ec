"""What people see of usage: theirs, their projects', everybody's; as JSON, as a table, on the command line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from leasing import Client, errors
from leasing.accounting import Condition
from leasing.cli.app import execute
from leasing.model import Counting, Member, Project
from leasing.states import ProjectRole, Role
from scheduler.clock import Clock
from scheduler.reconcile import usage as stage
from tests.support.api import Served, served, token
from tests.support.cluster import Cluster
from tests.support.past import A100, Past

H100 = "NVIDIA H100 80GB HBM3"
CLASSES = ("leased", "held", "free", "foreign", "out", "unknown")
DOCS = Path(__file__).parent.parent.parent / "docs" / "usage.md"


@dataclass
class World:
    """ada and bob have leased; eve owns the project of one of bob's leases; root is an admin."""

    api: Served
    past: Past
    ada: Client
    bob: Client
    eve: Client
    root: Client


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    with Cluster.opened(database_url) as cluster, served(cluster, tmp_path) as api:
        with cluster.sessions.begin() as session:
            past = Past.make(session, hours_ago=30)
            _history(past)
        people = [token(cluster, cluster.ada), api.user("bob"), api.user("eve"), api.user("root", Role.ADMIN)]
        with cluster.sessions.begin() as session:
            _owned(session, past)
        clients = [Client(api.url, secret) for secret in people]
        yield World(api, past, *clients)
        for client in clients:
            client.close()


def _history(past: Past) -> None:
    """ada's `train` had half an A100 for 45 minutes and, resumed, a whole one for 90; `shell` had no device."""
    first, second = past.device(), past.device()
    past.device(model=H100, condition=Condition.CORDONED)
    train = past.lease("train")
    run = past.run(train, 20, 65, parts={first: 500}, placed=19, released=66)
    again = past.run(train, 90, 180, parts={second: 1000}, placed=89, released=181)
    past.used(run, 0, A100, measured=1200, used=300)
    past.used(again, 1, A100, measured=1800, used=900)
    past.used(again, 2, A100, measured=1800, used=600)
    past.used(again, 2, "", measured=3600, used=1800, memory=3600.0 * 2**30)
    past.run(past.lease("shell"), 0, 30)


def _owned(session: sa.orm.Session, past: Past) -> None:
    """bob's lease in the project that eve owns; its name is a formula to a spreadsheet."""
    past.session = session
    vision = Project(name="vision")
    session.add(vision)
    session.flush()
    session.add(Member(project_id=vision.id, user_id=past.user("eve").id, role=ProjectRole.OWNER))
    lease = past.lease("=cmd|calc", owner="bob")
    lease.project_id = vision.id
    gpu = past.device(model=H100)
    past.run(lease, 0, 60, parts={gpu: 1000})


def seal(world: World) -> None:
    make = world.api.cluster.sessions
    while stage.run_once(make, Clock(make)):
        pass


@pytest.mark.parametrize("sealed", [True, False])
def test_allocated_and_used_stand_side_by_side_sealed_or_not(world: World, sealed: bool) -> None:
    if sealed:
        seal(world)
    page = world.ada.usage(days=2)
    assert [(one.lease, one.owner, one.project) for one in page.items] == [
        ("train", "ada", "default"),
        ("shell", "ada", "default"),
    ]
    train, shell = page.items
    assert train.device_allocated_seconds == 45 * 60 / 2 + 90 * 60
    assert train.device_measured_seconds == 1200 + 3600
    assert train.device_used_seconds == 1800
    assert train.device_used_ratio == pytest.approx(1800 / 4800)
    assert (train.cpu_allocated_seconds, train.cpu_used_seconds, train.cpu_measured_seconds) == (
        135 * 60 * 2,
        1800,
        3600,
    )
    assert train.memory_used_byte_seconds == 3600.0 * 2**30
    assert (shell.device_allocated_seconds, shell.device_used_seconds, shell.device_used_ratio) == (
        0,
        None,
        None,
    )
    assert page.total.device_allocated_seconds == train.device_allocated_seconds
    assert page.total.ran_seconds == 165 * 60


def test_everybody_sees_what_is_theirs_to_see(world: World) -> None:
    seal(world)
    wanted: dict[str, Any] = {"days": 2}
    assert [one.lease for one in world.bob.usage(**wanted).items] == ["=cmd|calc"]
    assert world.eve.usage(**wanted).items == []
    assert [one.lease for one in world.eve.usage(everyone=True, **wanted).items] == ["=cmd|calc"]
    assert [one.lease for one in world.eve.usage(project="vision", **wanted).items] == ["=cmd|calc"]
    assert world.eve.usage(user="ada", **wanted).items == []
    assert world.bob.usage(project="vision", user="ada", **wanted).items == []
    assert {one.lease for one in world.ada.usage(everyone=True, **wanted).items} == {"train", "shell"}
    assert {one.lease for one in world.root.usage(everyone=True, **wanted).items} == {
        "train",
        "shell",
        "=cmd|calc",
    }
    assert [one.key for one in world.root.usage(user="bob", by="user", **wanted).items] == ["bob"]
    with pytest.raises(errors.NotAllowed):
        world.eve.admin.device_usage()
    with pytest.raises(errors.NotAllowed):
        world.eve.admin.set_price("A100", 1)


def test_lines_stand_for_users_projects_models_and_days(world: World) -> None:
    seal(world)
    everything: dict[str, Any] = {"everyone": True, "days": 2}

    def hours(by: str) -> dict[str, float]:
        return {
            one.key: one.device_allocated_seconds / 3600
            for one in world.root.usage(by=by, **everything).items
        }

    assert hours("user") == {"ada": 1.875, "bob": 1}
    assert hours("project") == {"default": 1.875, "vision": 1}
    assert hours("model") == {A100: 1.875, H100: 1, "": 0}
    assert sum(hours("day").values()) == 2.875
    only = world.root.usage(model="h100", by="model", **everything)
    assert [one.key for one in only.items] == [H100]


def test_pages_follow_each_other_without_a_gap(world: World) -> None:
    seal(world)
    with world.api.cluster.sessions.begin() as session:
        world.past.session = session
        for number in range(7):
            world.past.run(world.past.lease(f"same{number}"), 0, 10)
        session.execute(sa.update(Counting).values(sealed_until=world.past.began))
        session.execute(sa.text("DELETE FROM usage_hour"))
    seen, cursor = [], None
    while True:
        page = world.ada.usage(days=2, limit=2, cursor=cursor)
        seen += [one.key for one in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 9
    for hostile in ("x", "e30=", "WyItMSIsICJ4Il0=", "WzEsMl0=", "WyIxIiwgIlx1MDAwMCJd"):
        with pytest.raises(errors.Invalid):
            world.ada.usage(cursor=hostile)


def test_prices_make_costs_and_what_has_none_costs_nothing_known(world: World) -> None:
    seal(world)
    assert not world.ada.usage(days=2).priced
    world.root.admin.set_price("A100", 2)
    world.root.admin.set_price("A100-SXM4", 4)
    assert [(one.model, one.per_hour) for one in world.ada.prices()] == [("A100", 2), ("A100-SXM4", 4)]
    train, shell = world.ada.usage(days=2).items
    assert (train.cost, shell.cost) == (1.875 * 4, 0)
    assert world.root.usage(days=2, everyone=True).total.cost is None
    world.root.admin.remove_price("A100-SXM4")
    assert world.ada.usage(days=2).total.cost == 1.875 * 2
    with pytest.raises(errors.NotFound):
        world.root.admin.remove_price("V100")
    for wrong in (-1, float("inf"), 10**9):
        with pytest.raises(errors.Invalid):
            world.root.admin.set_price("A100", wrong)


def test_a_table_carries_no_formula(world: World) -> None:
    seal(world)
    with world.api.client(world.root.transport.token) as http:
        asked = {"everyone": "true", "days": "2"}
        by_header = http.get("/usage", params=asked, headers={"Accept": "text/csv"})
        by_query = http.get("/usage", params=asked | {"format": "csv"})
        devices = http.get("/usage/devices", params={"format": "csv", "days": "2", "by": "device"})
    assert by_header.headers["content-type"].startswith("text/csv")
    assert by_header.text == by_query.text
    lines = list(csv.DictReader(io.StringIO(by_header.text)))
    assert {line["lease"] for line in lines} == {"train", "shell", "'=cmd|calc"}
    train = next(line for line in lines if line["lease"] == "train")
    assert (train["device_allocated_seconds"], train["device_used_seconds"], train["cost"]) == (
        "6750",
        "1800",
        "",
    )
    assert len(devices.text.splitlines()) == 1 + 4


def test_what_is_wrong_with_a_question_is_said(world: World) -> None:
    wrongs: list[dict[str, Any]] = [
        {"month": "2026-13"},
        {"month": "november"},
        {"zone": "Mars/Olympus"},
        {"zone": "../../etc/passwd"},
        {"days": 0},
        {"days": 3, "month": "2026-11"},
        {"since": world.past.at(60), "until": world.past.at(0)},
        {"by": "'; DROP TABLE lease; --"},
        {"user": "a\0b"},
    ]
    for wrong in wrongs:
        with pytest.raises(errors.Invalid):
            world.ada.usage(**wrong)
    assert world.ada.usage(user="' OR 1=1 --", everyone=True).items == []


def test_the_classes_of_every_line_sum_to_capacity(world: World) -> None:
    for _ in range(2):  # counted now, then sealed
        for by in ("hour", "day", "device", "model", "node"):
            page = world.root.admin.device_usage(by=by, days=2, limit=1000)
            for one in [*page.items, page.total]:
                assert sum(getattr(one, name) for name in CLASSES) == pytest.approx(one.capacity, abs=1e-6)
            assert page.total.capacity == pytest.approx(sum(one.capacity for one in page.items))
            assert page.total.leased == 6750 + 3600
        seal(world)
    page = world.root.admin.device_usage(by="device", since=world.past.at(0), until=world.past.at(60))
    found = {one.key: one for one in page.items}
    assert [one.capacity for one in page.items] == [3600] * 4
    assert (found["GPU-0"].leased, found["GPU-0"].held, found["GPU-0"].free) == (1200, 30, 2370)
    assert (found["GPU-2"].out, found["GPU-3"].leased) == (3600, 3600)


def test_the_command_line_shows_usage(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEASING_URL", world.api.url)
    monkeypatch.setenv("LEASING_TOKEN", world.root.transport.token)
    monkeypatch.setenv("TZ", "Europe/Berlin")

    def said(*words: str) -> str:
        assert execute(list(words)) == 0
        return capsys.readouterr().out

    table = said("usage", "--everyone", "--days", "2", "--by", "user")
    assert re.search(r"^ada +1\.88 +0\.50 \(38%\) +71% ", table, re.MULTILINE)
    assert re.search(r"^bob +1\.00 +not measured +none ", table, re.MULTILINE)
    assert "2.88 GPU hours were allocated; used 38% of the 46% of them that were measured." in table
    assert json.loads(said("usage", "--json", "--month", "1999-01"))["zone"] == "Europe/Berlin"
    assert "lease usage --days 30" in said("usage", "--month", "1999-01")
    assert said("usage", "--csv", "--everyone", "--days", "2").startswith("device_allocated_seconds,")
    assert "COST" not in table
    said("admin", "price", "set", "A100", "2.50")
    assert "4.69" in said("usage", "--user", "ada", "--days", "2")
    assert "2.50" in said("admin", "price")
    capacity = said("admin", "capacity", "--days", "2", "--by", "model")
    assert "GPU hours, all there were." in capacity
    assert said("admin", "price", "rm", "A100")
    assert execute(["usage", "--by", "colour"]) == 2
    assert "--by lease|user" in capsys.readouterr().err


def test_the_worked_example_of_the_documentation_is_right(world: World) -> None:
    """docs/usage.md tells of `train`, and of the devices in its first hour."""
    told = DOCS.read_text()
    train = next(one for one in world.ada.usage(days=2).items if one.lease == "train")
    assert f"{train.device_allocated_seconds:g} device-seconds" in told
    assert f"{train.device_used_seconds:g} of them" in told
    assert f"used {train.device_used_ratio:.1%}" in told
    first = world.root.admin.device_usage(by="device", since=world.past.at(0), until=world.past.at(60)).items[
        0
    ]
    assert f"| {first.leased:g} | {first.held:g} | {first.free:g} | {first.capacity:g} |" in told


def test_months_are_those_of_the_callers_zone(world: World) -> None:
    page = world.ada.usage(month="2026-03", zone="Europe/Berlin")
    assert (page.until - page.since) == timedelta(days=31) - timedelta(
        hours=1
    )  # a spring night has an hour less
    assert page.since.isoformat() == "2026-03-01T00:00:00+01:00"
    days = {
        zone: [one.key for one in world.ada.usage(by="day", days=3, zone=zone).items]
        for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago")  # 25 hours apart
    }
    assert days["Pacific/Kiritimati"][0] > days["Pacific/Pago_Pago"][0]
