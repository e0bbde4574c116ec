"""The api over HTTP semantics on a real PostgreSQL: who may, what is malformed, what happens twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.app import create_app
from leasing.database import now
from leasing.model import RegistryCredential, TokenKind
from leasing.secrets import key
from leasing.service import people, registries
from leasing.settings.core import CoreSettings
from leasing.settings.limits import LimitSettings
from leasing.states import Role
from monitoring import collector
from tests.support.cluster import Cluster, user

LEASES = "/api/v1/leases"
SMALL: dict[str, Any] = {"cpus": "1", "memory": "64M"}


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


@pytest.fixture
def app(cluster: Cluster, tmp_path: Path) -> FastAPI:
    return create_app(
        settings=CoreSettings(state_dir=tmp_path),
        limits=LimitSettings(devices_per_user=4),
        sessions=cluster.sessions,
        url=cluster.url,
        connect=lambda *_: cluster.driver,
        metrics=collector.render,
        catalogue=[],
    )


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as made:
        yield made


def signed_in(cluster: Cluster, name: str, role: Role = Role.DEVELOPER) -> dict[str, str]:
    with cluster.sessions.begin() as session:
        who = cluster.ada if name == "ada" else user(session, name, role)
        _, secret = people.issue(session, who.user_id, TokenKind.API, "test", expires_at=None)
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def ada(cluster: Cluster) -> dict[str, str]:
    return signed_in(cluster, "ada")


@pytest.fixture
def root(cluster: Cluster) -> dict[str, str]:
    return signed_in(cluster, "root", Role.ADMIN)


def every_operation(app: FastAPI) -> list[tuple[str, str]]:
    paths: dict[str, Any] = app.openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_nobody_gets_in_without_a_token(client: TestClient, app: FastAPI) -> None:
    open_to_all = {"/healthz", "/readyz", "/api/v1/signin"}
    for method, path in every_operation(app):
        if path not in open_to_all:
            answer = client.request(
                method, path.replace("{token_id}", "0" * 8 + "-0000-0000-0000-" + "0" * 12), json={}
            )
            assert answer.status_code in (401, 422), (method, path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"


def test_admins_matters_are_for_admins(client: TestClient, ada: dict[str, str]) -> None:
    for method, path in (
        ("GET", "/users"), ("POST", "/users"), ("PATCH", "/users/ada"), ("POST", "/users/root/signin-link"),
        ("GET", "/registries"), ("PATCH", "/nodes/local"), ("PATCH", "/devices/x"), ("GET", "/events"),
    ):  # fmt: skip
        body = {"name": "x"} if path == "/users" else {"intent": "open"} if "intent" in path else {}
        answer = client.request(method, f"/api/v1{path}", headers=ada, json=body)
        assert answer.status_code in (403, 422), (path, answer.text)
        if answer.status_code == 422:
            assert method in ("PATCH", "POST")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "No"}, {"name": "a" * 41}, {"name": "-a"}, {"name": ""}, {"gpu": "x y z!"}, {"gpu": "-1"},
        {"cpus": "0"}, {"cpus": "nan"}, {"memory": "1"}, {"memory": "huge"}, {"shm": "1T"}, {"ttl": "0s"},
        {"ttl": "-1h"}, {"ttl": "300d"}, {"ttl": "1h", "until": "2030-01-01T00:00:00Z"},
        {"until": "2001-01-01T00:00:00Z"}, {"until": "tomorrow"}, {"idle_timeout": "1s"}, {"port": 0}, {"port": 70000},
        {"command": ["a\u0000b"]}, {"command": "not a list"}, {"env": {"1X": "y"}}, {"env": {"A": "\u0000"}},
        {"env": {"NVIDIA_VISIBLE_DEVICES": "all"}}, {"env": {"LEASE_ID": "x"}}, {"image": "-v"}, {"image": "a b"},
        {"unknown": 1}, {"workspace": "../x"}, {"priority": 9}, [], "text", 7, None,
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_422_and_says_where(
    client: TestClient, ada: dict[str, str], body: Any
) -> None:
    answer = client.post(LEASES, headers=ada, json=body)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["code"] == "invalid"
    assert problem["detail"]


def test_hostile_bytes_are_answered_not_crashed_on(client: TestClient, ada: dict[str, str]) -> None:
    headers = ada | {"Content-Type": "application/json"}
    for content in (b"{", b"\xff\xfe", b"[" * 10_000, b'{"name": "\\ud800"}', b'{"gpu": 1e999}'):
        answer = client.post(LEASES, headers=headers, content=content)
        assert answer.status_code in (400, 422), (content[:20], answer.text)
    assert client.post(LEASES, headers=headers, content=b" " * (1024 * 1024 + 1)).status_code == 413
    for ref in ("%00", "a%00b", "..", "%2e%2e", "x" * 5000, "'; drop table lease; --", "é"):
        answer = client.get(f"{LEASES}/{ref}", headers=ada)
        assert answer.status_code in (404, 405, 422), (ref, answer.status_code, answer.text)
    assert client.get(LEASES, headers=ada, params={"cursor": "x"}).status_code == 422
    assert client.get(LEASES, headers=ada, params={"limit": "99999"}).status_code == 422


def test_the_same_name_twice_is_a_conflict(client: TestClient, ada: dict[str, str]) -> None:
    assert client.post(LEASES, headers=ada, json=SMALL | {"name": "twin"}).status_code == 201
    again = client.post(LEASES, headers=ada, json=SMALL | {"name": "twin"})
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")


def test_the_same_key_is_the_same_lease_and_another_ask_with_it_is_refused(
    client: TestClient, ada: dict[str, str]
) -> None:
    headers = ada | {"Idempotency-Key": "k1"}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: client.post(LEASES, headers=headers, json=SMALL), range(6)))
    assert {one.status_code for one in answers} == {201}
    assert len({one.json()["id"] for one in answers}) == 1
    other = client.post(LEASES, headers=headers, json=SMALL | {"cpus": "2"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_mismatch")


def test_quota_and_room_are_told_apart(client: TestClient, ada: dict[str, str]) -> None:
    too_many = client.post(LEASES, headers=ada, json=SMALL | {"gpu": "5"})
    assert (too_many.status_code, too_many.json()["code"]) == (403, "over_quota")
    never = client.post(LEASES, headers=ada, json=SMALL | {"gpu": "3"})
    assert (never.status_code, never.json()["code"]) == (409, "never_fits")


def test_another_user_s_lease_is_not_yours_and_an_admin_s_it_is(
    client: TestClient, cluster: Cluster, ada: dict[str, str], root: dict[str, str]
) -> None:
    eve = signed_in(cluster, "eve")
    client.post(LEASES, headers=ada, json=SMALL | {"name": "mine"})
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/why"), ("GET", "/events"), ("GET", "/logs")):
        assert client.request(method, f"{LEASES}/mine{path}", headers=eve).status_code == 403
    assert client.post(f"{LEASES}/mine/renew", headers=eve, json={"ttl": "1h"}).status_code == 403
    assert client.get(LEASES, headers=eve).json()["items"] == []
    assert client.get(f"{LEASES}/mine", headers=root).json()["owner"] == "ada"
    assert [one["name"] for one in client.get(f"{LEASES}?everyone=true", headers=root).json()["items"]] == [
        "mine"
    ]


def test_pages_follow_each_other(client: TestClient, ada: dict[str, str]) -> None:
    names = [client.post(LEASES, headers=ada, json=SMALL).json()["name"] for _ in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        page = client.get(
            LEASES, headers=ada, params={"limit": 2} | ({"cursor": cursor} if cursor else {})
        ).json()
        seen += [one["name"] for one in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert seen == names[::-1]


def test_release_twice_is_once(client: TestClient, ada: dict[str, str]) -> None:
    client.post(LEASES, headers=ada, json=SMALL | {"name": "once"})
    first, second = (client.delete(f"{LEASES}/once", headers=ada).json() for _ in range(2))
    assert (first["state"], first["reason"]) == ("ended", "cancelled")
    assert second == first
    kinds = [one["kind"] for one in client.get(f"{LEASES}/once/events", headers=ada).json()["items"]]
    assert kinds == ["lease.queued", "lease.ended"]


def test_events_are_followed_to_the_end(client: TestClient, ada: dict[str, str]) -> None:
    client.post(LEASES, headers=ada, json=SMALL | {"name": "watched"})
    client.delete(f"{LEASES}/watched", headers=ada)
    answer = client.get(f"{LEASES}/watched/events", headers=ada | {"Accept": "text/event-stream"})
    kinds = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert kinds == ["lease.queued", "lease.ended"]
    first = next(line for line in answer.text.splitlines() if line.startswith("id: ")).removeprefix("id: ")
    rest = client.get(
        f"{LEASES}/watched/events", headers=ada | {"Accept": "text/event-stream", "Last-Event-ID": first}
    )
    assert "lease.queued" not in rest.text
    assert "lease.ended" in rest.text


def test_a_one_time_link_is_good_once_and_not_for_long(client: TestClient, cluster: Cluster) -> None:
    with cluster.sessions.begin() as session:
        moment = now(session)
        secret, _ = people.signin_secret(session, "ada", now=moment, actor="test")
        old, _ = people.signin_secret(session, "ada", now=moment - timedelta(hours=1), actor="test")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/api/v1/signin", json={"secret": secret}), range(8)))
    assert sorted(one.status_code for one in answers) == [201] + [401] * 7
    assert client.post("/api/v1/signin", json={"secret": old}).status_code == 401
    token = next(one.json()["secret"] for one in answers if one.status_code == 201)
    assert client.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"}).json()["name"] == "ada"


def test_a_revoked_token_and_a_disabled_user_are_out_at_once(
    client: TestClient, ada: dict[str, str], root: dict[str, str]
) -> None:
    made = client.post("/api/v1/tokens", headers=ada, json={"label": "ci"}).json()
    mine = {"Authorization": f"Bearer {made['secret']}"}
    assert client.get("/api/v1/me", headers=mine).status_code == 200
    assert client.delete(f"/api/v1/tokens/{made['id']}", headers=ada).status_code == 204
    assert client.get("/api/v1/me", headers=mine).status_code == 401
    assert client.patch("/api/v1/users/ada", headers=root, json={"disabled": True}).status_code == 200
    assert client.get("/api/v1/me", headers=ada).status_code == 401


def test_the_last_admin_stays(client: TestClient, root: dict[str, str]) -> None:
    for body in ({"disabled": True}, {"role": "developer"}):
        assert client.patch("/api/v1/users/root", headers=root, json=body).status_code == 409
    assert client.get("/api/v1/users", headers=root).status_code == 200


def test_a_cookie_from_another_origin_s_page_is_refused(client: TestClient, ada: dict[str, str]) -> None:
    cookie = {"Cookie": f"leasing_session={ada['Authorization'].removeprefix('Bearer ')}"}
    own = cookie | {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
    assert client.post(LEASES, headers=own, json=SMALL).status_code == 201
    for foreign in (
        {"Origin": "http://testserver:8081", "Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {},
    ):
        assert client.post(LEASES, headers=cookie | foreign, json=SMALL).status_code == 403
    assert client.get(LEASES, headers=cookie | {"Sec-Fetch-Site": "same-site"}).status_code == 403


def test_a_registry_s_secret_is_sealed_and_never_shown(
    client: TestClient, cluster: Cluster, root: dict[str, str], tmp_path: Path
) -> None:
    body = {"host": "registry.example", "username": "bot", "secret": "hunter2-hunter2"}
    answer = client.post("/api/v1/registries", headers=root, json=body)
    assert answer.status_code == 201
    assert "hunter2" not in answer.text + client.get("/api/v1/registries", headers=root).text
    with cluster.sessions() as session:
        assert b"hunter2" not in session.get_one(RegistryCredential, "registry.example").sealed_secret
        login = registries.login_for(session, "registry.example/team/x:1", key(tmp_path / "secret.key"))
        assert login is not None
        assert login.secret == "hunter2-hunter2"
        assert "hunter2" not in repr(login)
        assert registries.login_for(session, "other.example/x", key(tmp_path / "secret.key")) is None


def test_the_metrics_are_well_formed(
    client: TestClient, cluster: Cluster, ada: dict[str, str], root: dict[str, str]
) -> None:
    cluster.run(gpu="1", port=80)
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=ada).status_code == 403
    text = client.get("/metrics", headers=root).text
    for line in (
        'leasing_leases{state="running"} 1.0',
        "leasing_queue_depth 0.0",
        'leasing_lease_transitions_total{from="starting",reason="",to="running"} 1.0',
        "leasing_allocation_conflicts_total 0.0",
    ):
        assert line in text
    assert text.count("leasing_lease_gpu_info{") == 1


def test_everything_is_described(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
