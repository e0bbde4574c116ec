"""What an endpoint is told besides its port: taken with the request, changed while it lives, refused with the limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from leasing import Client, errors
from leasing.cli.app import execute
from leasing.model import Event
from tests.support.api import Served, served, token
from tests.support.cluster import Cluster


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url) as made:
        yield made


@pytest.fixture
def api(cluster: Cluster, tmp_path: Path) -> Iterator[Served]:
    with served(cluster, tmp_path) as made:
        yield made


@pytest.fixture
def ada(api: Served, cluster: Cluster) -> Iterator[Client]:
    with Client(api.url, token(cluster, cluster.ada)) as client:
        yield client


ASKED = {"cache": "60s", "wake": True, "rate": 4.5, "burst": 20, "max_body": "1G", "timeout": "10m"}
TAKEN = {
    "inside": False,
    "cache_seconds": 60,
    "wake": True,
    "rate": 4.5,
    "burst": 20,
    "body_max_bytes": 2**30,
    "timeout_seconds": 600,
}
NOTHING = dict.fromkeys(TAKEN) | {"wake": False, "inside": False}


def test_options_are_asked_for_changed_and_taken_back(api: Served, cluster: Cluster, ada: Client) -> None:
    plain = ada.up(name="plain", port=8000)
    assert plain.facts.endpoint.model_dump() == NOTHING
    lease = ada.up(name="app", port=8000, endpoint=ASKED)
    assert lease.facts.endpoint.model_dump() == TAKEN
    lease.set_endpoint(cache="off", timeout="30s")
    assert lease.facts.endpoint.model_dump() == TAKEN | {"cache_seconds": None, "timeout_seconds": 30}
    lease.set_endpoint(wake=False, rate=0, burst=0, max_body="off", timeout="off")
    assert lease.refresh().endpoint.model_dump() == NOTHING
    with cluster.sessions() as session:
        said = session.execute(
            sa.select(Event.message).where(Event.kind == "lease.endpoint").order_by(Event.id)
        ).scalars()
        assert list(said) == [
            "ada set its endpoint: woken by calls, 4.5 calls a second, 20 at once, bodies up to 1G, an answer in 30s",
            "ada set its endpoint: no limits, no cache",
        ]


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"cache": "2d"}, "1d at most"),
    ({"cache": "soon"}, "not a duration"),
    ({"rate": 0.001}, "the least is 0.01"),
    ({"burst": 5}, "there is no rate"),
    ({"max_body": "much"}, "not a size"),
    ({"timeout": "0s"}, "out of range"),
]


def test_a_refusal_names_the_limit(ada: Client) -> None:
    lease = ada.up(name="app", port=8000)
    for options, said in REFUSED:
        with pytest.raises(errors.Invalid, match=said):
            ada.up(name="other", port=8000, endpoint=options)
        with pytest.raises(errors.Invalid, match=said):
            lease.set_endpoint(**options)
    with pytest.raises(errors.Invalid, match="without a port"):
        ada.up(name="closed", endpoint={"wake": True})
    lease.release()
    with pytest.raises(errors.Gone):
        lease.set_endpoint(wake=True)


def test_a_malformed_one_is_the_payload_s_fault(api: Served, cluster: Cluster) -> None:
    with api.client(token(cluster, cluster.ada)) as client:
        for options in ({"cach": "60s"}, {"rate": -1}, {"rate": 1e999}, {"burst": 1.5}, {"wake": "perhaps"}):
            body = str(options).replace("'", '"').replace("True", "true")
            body = body.replace("inf", "1e999")
            answer = client.post(
                "/leases",
                content=f'{{"name": "app", "port": 8000, "endpoint": {body}}}',
                headers={"Content-Type": "application/json"},
            )
            assert answer.status_code == 422, answer.text


def test_the_command_sets_and_shows_them(
    api: Served, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEASING_URL", api.url)
    monkeypatch.setenv("LEASING_TOKEN", token(cluster, cluster.ada))
    words = "up app --port 8000 --cache 60s --wake --rate 100 --max-body 1GB --timeout 10m --detach"
    assert execute(words.split()) == 0
    assert execute(["endpoint", "app"]) == 0
    shown = capsys.readouterr().out
    for line in ("answers are kept for 1m", "woken by the next call", "100 calls a second", "1G", "10m"):
        assert line in shown
    assert execute(["endpoint", "app", "--no-wake", "--rate", "0"]) == 0
    shown = capsys.readouterr().out
    assert ("woken" in shown, "calls a second" in shown) == (False, False)
    assert execute(["endpoint", "app", "--cache", "2d"]) == 2
