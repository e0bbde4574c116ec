"""Notebooks and pages: what is a way into a lease is for who may enter, and signing in leads on to what was wanted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

import web
from api.gateway.authorise import Refusal, Upstream, authorise
from api.gateway.grants import Target, Visitor
from leasing.schema.cluster import EnvironmentOut
from leasing.schema.endpoint import EndpointOptions
from leasing.schema.lease import LeaseRequest
from leasing.service import events
from leasing.service.environments import filled
from leasing.states import ProjectRole
from tests.support.api import Served, served, token
from tests.support.cluster import Cluster

NOTEBOOK = EnvironmentOut(
    name="jupyter", title="", description="", reference="", ready=False, port=8888, inside=True
)
PLAIN = EnvironmentOut(name="web", title="", description="", reference="", ready=False, port=80)


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url) as made:
        yield made


@pytest.fixture
def api(cluster: Cluster, tmp_path: Path) -> Iterator[Served]:
    with served(cluster, tmp_path, prepare=web.mount) as made:
        made.app.state.catalogue = (NOTEBOOK, PLAIN)
        yield made


def test_an_environment_brings_its_port_and_who_may_call_it() -> None:
    for wish, port, inside in (
        ({"image": "jupyter"}, 8888, True),
        ({"image": "jupyter", "port": 8888}, 8888, True),
        ({"image": "jupyter", "port": 9000}, 9000, None),  # something else listens there
        ({"image": "jupyter", "endpoint": {"inside": False, "rate": 5}}, 8888, False),
        ({"image": "web"}, 80, None),
        ({"image": "docker.io/library/python"}, None, None),
        ({}, None, None),
    ):
        found = filled(LeaseRequest.model_validate(wish), [NOTEBOOK, PLAIN])
        assert (found.port, found.endpoint.inside if found.endpoint else None) == (port, inside), wish
    kept = filled(LeaseRequest.model_validate({"image": "jupyter", "endpoint": {"rate": 5}}), [NOTEBOOK])
    assert kept.endpoint
    assert (kept.endpoint.rate, kept.endpoint.inside) == (5, True)


def test_a_notebook_is_asked_for_by_its_name_alone(api: Served, cluster: Cluster) -> None:
    with api.client(token(cluster, cluster.ada)) as ada:
        made = ada.post("/leases", json={"name": "nb", "image": "jupyter"}).json()
        assert made["endpoint_url"].endswith("/l/nb/")
        assert made["endpoint"]["inside"] is True
        opened = ada.patch("/leases/nb/endpoint", json={"inside": False}).json()
        assert opened["endpoint"]["inside"] is False


@pytest.mark.parametrize("scoped", [False, True])
@pytest.mark.parametrize(
    ("role", "shared", "inside", "verdict"),
    [
        (ProjectRole.VIEWER, True, False, None),
        (ProjectRole.VIEWER, True, True, Refusal.INSIDE),
        (ProjectRole.DEVELOPER, True, True, None),
        (ProjectRole.OWNER, True, True, None),
        (ProjectRole.DEVELOPER, False, True, Refusal.NOT_SHARED),
        (None, True, True, Refusal.NOT_YOURS),
    ],
)
def test_who_may_only_call_is_kept_out_of_a_notebook(
    role: ProjectRole | None, shared: bool, inside: bool, verdict: Refusal | None, scoped: bool
) -> None:
    """Also with a token for this one lease, which stands for who made it."""
    lease_id, project_id = uuid4(), uuid4()
    target = Target(
        lease_id, "nb", uuid4(), project_id, shared, "running", "", 8888, "10.213.0.2",
        endpoint=EndpointOptions(inside=inside),
    )  # fmt: skip
    visitor = Visitor(
        uuid4(), uuid4(), "eve", False, lease_id if scoped else None, None, {project_id: role} if role else {}
    )
    assert authorise(visitor, target) == (verdict or Upstream("10.213.0.2", 8888))


def test_signing_in_leads_on_to_what_was_wanted(api: Served, cluster: Cluster) -> None:
    with httpx.Client(base_url=api.url, headers={"Origin": api.url, "Accept": "text/html"}) as browser:
        sent = browser.get("/leases/desk/files?path=/workspace")
        assert sent.headers["location"] == "/signin?next=%2Fleases%2Fdesk%2Ffiles%3Fpath%3D%2Fworkspace"
        assert (
            'name="next" value="/leases/desk/files?path=/workspace"'
            in browser.get(sent.headers["location"]).text
        )
        with api.client(token(cluster, cluster.ada)) as ada:
            for wanted, to in (
                ("/leases/desk/terminal", "/leases/desk/terminal"),
                ("//evil.example/", "/"),
                ("/\\evil.example", "/"),
                ("https://evil.example/", "/"),
                ("/a\r\nSet-Cookie: x=1", "/"),
            ):
                secret = httpx.URL(ada.post("/users/ada/signin-link").json()["url"]).params["secret"]
                done = browser.post("/signin", data={"secret": secret, "next": wanted})
                assert (done.status_code, done.headers["location"]) == (303, to)


def test_the_page_shows_what_happened_last(api: Served, cluster: Cluster) -> None:
    lease = cluster.run()
    with cluster.sessions.begin() as session:
        for number in range(150):
            events.record(session, "lease.extended", f"time {number}", actor="user:ada", lease_id=lease.id)
    with api.client(token(cluster, cluster.ada)) as ada:
        shown = ada.get(f"{api.url}/leases/{lease.name}").text
    assert [shown.find(f"time {number}<") > 0 for number in (149, 50, 49)] == [True, True, False]
    assert shown.index("time 149<") < shown.index("time 148<")
    assert f"lease events {lease.name}" in shown
