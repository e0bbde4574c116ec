"""Files in and out of leases over the api: who may, where to, how much, and what breaks off."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

import web
from api.app import THREADS
from api.streams import room
from leasing.drivers.copying import Listing
from leasing.model import Signal
from tests.support.api import Served, served, token
from tests.support.cluster import Cluster
from tests.support.postgres import TestDatabases
from tests.support.stack import until

PATH = {"path": "/workspace"}


@pytest.fixture(scope="module")
def cluster(databases: TestDatabases) -> Iterator[Cluster]:
    """One for all: each test has leases of its own."""
    with databases.migrated() as url, Cluster.opened(url) as made:
        yield made


@pytest.fixture(scope="module")
def api(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(cluster, tmp_path_factory.mktemp("api"), prepare=web.mount) as made:
        yield made


@pytest.fixture
def ada(api: Served, cluster: Cluster) -> Iterator[httpx.Client]:
    with api.client(token(cluster, cluster.ada)) as client:
        yield client


def packed(**files: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {one.name: held.read() for one in archive if (held := archive.extractfile(one)) is not None}


def test_files_go_in_are_listed_and_come_out(cluster: Cluster, ada: httpx.Client, api: Served) -> None:
    lease = cluster.run()
    files = f"/leases/{lease.name}/files"
    big = b"0123456789" * 300_000  # more than a request's body may usually have
    sent = packed(a=b"one", d__deep=b"two", big=big)
    assert ada.put(files, params=PATH, content=sent).json() == {"path": "/workspace", "bytes": len(sent)}

    found = ada.get(f"{files}/list", params=PATH).json()
    assert (found["path"], found["itself"]["folder"], found["more"]) == ("/workspace", True, False)
    assert {one["name"]: (one["kind"], one["size_bytes"]) for one in found["items"]} == {
        "a": ("file", 3), "big": ("file", len(big)), "d": ("folder", 0),
    }  # fmt: skip
    assert ada.get(f"{files}/list").json() == found, "the workspace is what is meant where nothing is said"
    assert ada.get(f"{files}/list", params={"path": "d/../d"}).json()["path"] == "/workspace/d"
    assert (
        ada.get(f"{files}/list", params={"path": "~/x"})
        .json()["detail"]
        .startswith("There is no /home/lease/x")
    )

    out = ada.get(files, params={"path": "d"})
    assert unpacked(out.content) == {"d/deep": b"two"}
    assert out.headers["content-disposition"] == "attachment; filename*=UTF-8''d.tar"
    one = ada.get(f"{files}/content", params={"path": "big"})
    assert (one.content, one.headers["content-type"]) == (big, "application/octet-stream")
    assert one.headers["content-length"] == str(len(big))
    assert one.headers["content-disposition"].startswith("attachment")

    api.app.state.typed.flush()
    with cluster.sessions() as session:
        signal = session.get_one(Signal, (lease.id, "terminal"))
        assert signal.active_at == signal.seen_at, "who copies is there"


def test_refusals_say_why(cluster: Cluster, ada: httpx.Client, api: Served) -> None:
    lease, waiting = cluster.run(), cluster.ask()
    files = f"/leases/{lease.name}/files"
    assert ada.put(files, params=PATH, content=packed(a=b"1")).status_code == 200
    for method, path, query, status, code in (
        ("GET", f"{files}/list", "/nosuch", 404, "not_found"),
        ("GET", files, "/nosuch", 404, "not_found"),
        ("GET", f"{files}/content", "/workspace", 422, "invalid"),
        ("PUT", files, "/nosuch", 404, "not_found"),
        ("PUT", files, "/workspace/a", 409, "conflict"),
        ("GET", f"/leases/{waiting.name}/files", "/", 409, "conflict"),
        ("PUT", f"/leases/{waiting.name}/files", "/", 409, "conflict"),
    ):
        body = packed(a=b"1") if method == "PUT" else None
        answer = ada.request(method, path, params={"path": query}, content=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (method, path, answer.text)
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../etc/cron.d/evil"))
    refused = ada.put(files, params=PATH, content=evil.getvalue())
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    assert "does not stay below" in refused.json()["detail"]
    assert ada.put(files, params=PATH, content=b"what is this?" * 100).status_code == 422
    with api.client(api.user("eve")) as eve:
        for method, path in (("GET", files), ("GET", f"{files}/list"), ("PUT", files)):
            assert eve.request(method, path, content=packed(a=b"2")).status_code == 403
    cluster.driver.knobs.down = True
    assert ada.get(f"{files}/list").status_code == 502
    cluster.driver.knobs.down = False
    assert ada.get(f"{files}/content", params={"path": "a"}).content == b"1", "none of that changed anything"


def test_more_than_may_be_sent_is_refused_while_it_comes(
    cluster: Cluster, ada: httpx.Client, api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = cluster.run()
    small = api.app.state.limits.model_copy(update={"upload_bytes": 1000})
    monkeypatch.setattr(api.app.state, "limits", small, raising=False)
    answer = ada.put(f"/leases/{lease.name}/files", params=PATH, content=packed(a=b"x" * 1001))
    assert answer.status_code == 422
    assert "1000 bytes" in answer.json()["detail"]
    assert "LEASING_LIMITS_UPLOAD_BYTES" in answer.json()["hint"]


def test_an_upload_that_breaks_off_is_no_whole_one(cluster: Cluster, ada: httpx.Client) -> None:
    lease = cluster.run()
    sent = packed(a=b"x" * 5000, b=b"y")
    answer = ada.put(f"/leases/{lease.name}/files", params=PATH, content=sent[:3000])
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert ada.get(f"/leases/{lease.name}/files/list", params=PATH).json()["items"] == []


def test_an_upload_that_stalls_is_cut_off_with_its_token(
    cluster: Cluster, ada: httpx.Client, api: Served
) -> None:
    lease, sent, over = cluster.run(), threading.Event(), threading.Event()
    made = ada.post("/tokens", json={"label": "ci"}).json()
    limiter = api.app.state.stream_threads

    def body() -> Iterator[bytes]:
        yield packed(a=b"x" * 5000)[:3000]
        sent.set()
        assert over.wait(30)

    with api.client(made["secret"]) as ci, ThreadPoolExecutor(1) as callers:
        upload = callers.submit(ci.put, f"/leases/{lease.name}/files", params=PATH, content=body())
        try:
            assert sent.wait(10)
            until(lambda: limiter.borrowed_tokens == 1, what="the upload")
            assert ada.delete(f"/tokens/{made['id']}").status_code == 204
            until(lambda: limiter.borrowed_tokens == 0, what="its end", seconds=15)
        finally:
            over.set()
        with suppress(httpx.TransportError):  # it was hung up on before it had sent all
            assert upload.result().status_code == 403


def test_containers_that_do_not_answer_keep_nobody_else_waiting(
    cluster: Cluster, ada: httpx.Client, api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_OF_ONE", 2 * THREADS)
    lease, answered, asked = cluster.run(), threading.Event(), threading.Semaphore(0)
    listing = cluster.driver.list_files

    def slow(container: str, path: str) -> Listing:
        asked.release()
        assert answered.wait(30)
        return listing(container, path)

    monkeypatch.setattr(cluster.driver, "list_files", slow)
    with ThreadPoolExecutor(2 * THREADS) as callers:
        pages = [f"/leases/{lease.name}/files/list", f"{api.url}/leases/{lease.name}/files"]
        looks = [callers.submit(ada.get, pages[number % 2]) for number in range(2 * THREADS)]
        try:
            assert all(asked.acquire(timeout=20) for _ in range(2 * THREADS))
            assert ada.get("/me", timeout=5).status_code == 200
        finally:
            answered.set()
        assert {look.result().status_code for look in looks} == {200}


def test_any_other_body_is_bounded_as_ever(cluster: Cluster, ada: httpx.Client) -> None:
    assert ada.post("/leases", content=b"x" * 2_000_000).status_code == 413
