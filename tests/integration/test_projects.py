"""Projects, their members and quotas over HTTP semantics, and asks that name where they want to be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from leasing.errors import NeverFits
from leasing.model import Event, Lease, Member, Node, Quota
from leasing.settings.core import CoreSettings
from leasing.states import Role
from tests.support.api import application, token
from tests.support.cluster import IMAGE, Cluster, user

SMALL: dict[str, Any] = {"image": IMAGE, "cpus": "0.1", "memory": "16M"}
Headers = dict[str, str]


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


@pytest.fixture
def client(cluster: Cluster, tmp_path: Path) -> Iterator[TestClient]:
    app: FastAPI = application(cluster, CoreSettings(state_dir=tmp_path))
    with TestClient(app, base_url="http://testserver/api/v1") as made:
        yield made


def signed_in(cluster: Cluster, name: str, role: Role = Role.DEVELOPER) -> Headers:
    if name == "ada":
        return {"Authorization": f"Bearer {token(cluster, cluster.ada)}"}
    with cluster.sessions.begin() as session:
        who = user(session, name, role)
    return {"Authorization": f"Bearer {token(cluster, who)}"}


@pytest.fixture
def root(cluster: Cluster) -> Headers:
    return signed_in(cluster, "root", Role.ADMIN)


@pytest.fixture
def ada(cluster: Cluster) -> Headers:
    return signed_in(cluster, "ada")


def kinds(cluster: Cluster, like: str) -> list[str]:
    with cluster.sessions() as session:
        return list(
            session.execute(sa.select(Event.kind).where(Event.kind.like(like)).order_by(Event.id)).scalars()
        )


def test_a_project_s_life(client: TestClient, cluster: Cluster, root: Headers, ada: Headers) -> None:
    made = client.post("/projects", headers=root, json={"name": "vision", "weight": 2.5})
    assert made.status_code == 201, made.text
    again = client.post("/projects", headers=root, json={"name": "vision"})
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    assert [one["name"] for one in client.get("/projects", headers=ada).json()["items"]] == ["default"]
    every = client.get("/projects", headers=root, params={"everyone": True}).json()["items"]
    assert [(one["name"], one["weight"], one["open"]) for one in every] == [
        ("default", 1, True),
        ("vision", 2.5, False),
    ]

    refused = client.post("/leases", headers=ada, json=SMALL | {"project": "vision"})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    owner = client.put("/projects/vision/members/ada", headers=root, json={"role": "owner"})
    assert owner.json()["members"] == [{"user": "ada", "role": "owner"}]
    changed = client.patch("/projects/vision", headers=root, json={"top_priority": "high", "weight": 3})
    assert (changed.json()["top_priority"], changed.json()["weight"]) == ("high", 3)
    asked = client.post("/leases", headers=ada, json=SMALL | {"project": "vision", "priority": "high"})
    assert (asked.status_code, asked.json()["project"]) == (201, "vision")
    (vision,) = (
        one for one in client.get("/projects", headers=ada).json()["items"] if one["name"] == "vision"
    )
    assert (vision["role"], vision["due_ratio"], vision["devices"]) == ("owner", 1, 0)
    assert [
        (one["name"], one["top_priority"]) for one in client.get("/me", headers=ada).json()["projects"]
    ] == [("vision", "high"), ("default", "normal")]

    live = client.delete("/projects/vision", headers=root)
    assert (live.status_code, live.json()["detail"]) == (409, "Project vision has 1 live lease.")
    client.delete(f"/leases/{asked.json()['id']}", headers=ada)
    ended = client.delete("/projects/vision", headers=root)
    assert (ended.status_code, ended.json()["detail"]) == (
        409,
        "The history of 1 ended lease names project vision.",
    )
    assert client.delete("/projects/default", headers=root).status_code == 409
    assert kinds(cluster, "project.%") == ["project.created", "project.member_set", "project.changed"]


def test_what_was_never_leased_in_goes_with_all_that_hangs_on_it(
    client: TestClient, cluster: Cluster, root: Headers, ada: Headers
) -> None:
    client.post("/projects", headers=root, json={"name": "brief"})
    client.put("/projects/brief/members/ada", headers=root, json={})
    client.put("/quotas/projects/brief", headers=root, json={"max_leases": 3})
    assert client.delete("/projects/brief", headers=root).status_code == 204
    with cluster.sessions() as session:
        assert session.execute(sa.select(Member.role)).all() == []
        assert session.execute(sa.select(Quota.id)).all() == []
    assert client.delete("/projects/brief", headers=root).status_code == 404
    gone = client.post("/leases", headers=ada, json=SMALL | {"project": "brief"})
    assert gone.status_code == 404


def test_owners_say_who_belongs_and_nobody_else_does(
    client: TestClient, cluster: Cluster, root: Headers, ada: Headers
) -> None:
    bob = signed_in(cluster, "bob")
    client.post("/projects", headers=root, json={"name": "vision"})
    client.put("/projects/vision/members/ada", headers=root, json={"role": "owner"})
    assert client.put("/projects/vision/members/bob", headers=bob, json={}).status_code == 403
    assert client.put("/projects/vision/members/bob", headers=ada, json={"role": "viewer"}).status_code == 200
    assert client.put("/projects/vision/members/bob", headers=bob, json={"role": "owner"}).status_code == 403
    assert client.post("/leases", headers=bob, json=SMALL | {"project": "vision"}).status_code == 403
    assert client.put("/projects/vision/members/bob", headers=ada, json={}).status_code == 200
    assert client.post("/leases", headers=bob, json=SMALL | {"project": "vision"}).status_code == 201
    assert client.put("/projects/vision/members/nobody", headers=ada, json={}).status_code == 404
    assert client.put("/projects/vision/members/bob", headers=ada, json={"role": "king"}).status_code == 422
    assert client.delete("/projects/vision/members/ada", headers=bob).status_code == 403
    assert client.delete("/projects/vision/members/bob", headers=bob).status_code == 204
    assert client.delete("/projects/vision/members/bob", headers=ada).status_code == 204
    assert kinds(cluster, "project.member%") == [*["project.member_set"] * 3, "project.member_removed"]
    for method, path in (
        ("POST", "/projects"),
        ("PATCH", "/projects/vision"),
        ("DELETE", "/projects/vision"),
    ):
        assert client.request(method, path, headers=ada, json={"name": "x"}).status_code in (403, 422)


@pytest.mark.parametrize(
    "body",
    [{"name": "No"}, {"name": "a/b"}, {"name": "x", "weight": 0}, {"name": "x", "weight": -1},
     {"name": "x", "top_priority": "royal"}, {"name": "x", "leases": 3}],
)  # fmt: skip
def test_a_project_that_makes_no_sense(client: TestClient, root: Headers, body: dict[str, Any]) -> None:
    assert client.post("/projects", headers=root, json=body).status_code == 422


def test_quotas_as_they_are_set_seen_and_cleared(
    client: TestClient, cluster: Cluster, root: Headers, ada: Headers
) -> None:
    (before,) = client.get("/quotas", headers=ada).json()["items"]
    assert (before["subject"], before["own"], before["max_devices"], before["device_hours"]) == (
        "users/ada", False, 8, None,
    )  # fmt: skip
    limits = {"max_devices": 1.5, "device_hours": 10, "window_hours": 24}
    assert client.put("/quotas/users/ada", headers=ada, json=limits).status_code == 403
    assert client.put("/quotas/users/ada", headers=root, json=limits).status_code == 200
    assert client.put("/quotas/projects/default", headers=root, json={"max_leases": 2}).status_code == 200
    cluster.run(gpu="0.5", ttl="4h")
    mine, ours = client.get("/quotas", headers=ada).json()["items"]
    assert (mine["own"], mine["max_devices"], mine["devices"], mine["leases"]) == (True, 1.5, 0.5, 1)
    assert mine["used_device_hours"] + mine["to_come_device_hours"] == pytest.approx(2, abs=0.01)
    assert mine["frees_at"]
    assert (ours["subject"], ours["max_leases"], ours["leases"]) == ("projects/default", 2, 1)
    over = client.post("/leases", headers=ada, json=SMALL | {"gpu": "1", "ttl": "30h"})
    assert (over.status_code, over.json()["code"]) == (403, "over_quota")
    assert "device-hours for ada; the limit is 10 in any 1d" in over.json()["detail"]
    every = client.get("/quotas", headers=root, params={"everyone": True}).json()["items"]
    assert [one["subject"] for one in every] == ["users/ada", "projects/default"]
    for subject in ("users/ada", "users/ada", "projects/default"):
        assert client.delete(f"/quotas/{subject}", headers=root).status_code == 204
    assert [one["own"] for one in client.get("/quotas", headers=ada).json()["items"]] == [False]
    assert kinds(cluster, "quota.%") == [*["quota.set"] * 2, *["quota.cleared"] * 2]
    assert client.put("/quotas/users/nobody", headers=root, json={}).status_code == 404
    assert client.put("/quotas/groups/x", headers=root, json={}).status_code == 422
    assert client.put("/quotas/users/ada", headers=root, json={"device_hours": 3}).status_code == 422


def test_labels_are_set_one_by_one_and_shown(
    client: TestClient, cluster: Cluster, root: Headers, ada: Headers
) -> None:
    path = "/nodes/local"
    assert client.patch(path, headers=ada, json={"labels": {"disk": "fast"}}).status_code == 403
    client.patch(path, headers=root, json={"labels": {"disk": "fast", "zone": "b"}})
    answer = client.patch(path, headers=root, json={"labels": {"zone": None, "rack": "7"}})
    assert answer.json()["items"][0]["labels"] == {"disk": "fast", "rack": "7"}
    assert client.get("/offers", headers=ada).json()["items"][0]["labels"] == {"disk": "fast", "rack": "7"}
    bodies: tuple[dict[str, Any], ...] = (
        {}, {"labels": {}}, {"labels": {"a b": "c"}}, {"labels": {"a": "b c"}},
    )  # fmt: skip
    for body in bodies:
        assert client.patch(path, headers=root, json=body).status_code == 422
    assert client.patch("/nodes/none", headers=root, json={"labels": {"a": "b"}}).status_code == 404
    many = {f"k{number}": "" for number in range(63)}
    assert client.patch(path, headers=root, json={"labels": many}).status_code == 422
    assert kinds(cluster, "node.labelled") == ["node.labelled"] * 2


def test_where_nothing_is_is_refused_at_once_and_says_what_is(cluster: Cluster) -> None:
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Node).values(labels={"disk": "fast", "zone": "b"}))
    with pytest.raises(NeverFits, match=r"There is no node 'other'\. There is: local\. .*--node"):
        cluster.ask(node="other")
    with pytest.raises(
        NeverFits, match=r"No node has the labels disk=slow\. There is: disk=fast, zone=b\. .*--label"
    ):
        cluster.ask(labels={"disk": "slow"})
    with pytest.raises(NeverFits, match="Node local has not the labels x=y"):
        cluster.ask(node="local", labels={"x": "y"})
    with pytest.raises(NeverFits, match="No node called local has 3 devices; the largest has 2"):
        cluster.ask(node="local", gpu="3")
    lease = cluster.run(node="local", labels={"zone": "b"}, at_least="1h", ttl="2h", preemptible=True)
    assert (lease.node_name, lease.node_labels, lease.at_least_seconds, lease.preemptible) == (
        "local", {"zone": "b"}, 3600, True,
    )  # fmt: skip
    with cluster.sessions() as session:
        assert session.execute(sa.select(sa.func.count(Lease.id))).scalar_one() == 1
