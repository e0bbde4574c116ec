"""`lease workspace` against a real api: what is typed, what is printed, and that every hint is a command that works."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.api import Served, served, token
from tests.support.cluster import IMAGE, Cluster
from tests.support.terminal import run

Lease = Callable[..., CompletedProcess[str]]


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[Served]:
    with Cluster.opened(database_url) as cluster, served(cluster, tmp_path) as made:
        yield made


@pytest.fixture
def lease(api: Served) -> Lease:
    secret = token(api.cluster, api.cluster.ada)
    return lambda *words: run(*words, LEASING_URL=api.url, LEASING_TOKEN=secret)


def test_from_making_to_deleting(api: Served, lease: Lease, tmp_path: Path) -> None:
    assert "The first lease that names one makes it: lease up --workspace data" in lease("workspace").stdout
    made = lease("workspace", "create", "data", "--quota", "2G")
    assert made.stdout == "Workspace data is made. Use it: lease up --workspace data\n"
    early = lease("workspace", "export", "data", "-o", str(tmp_path / "data.tar"))
    assert early.returncode == 1
    assert "no lease has had it yet" in early.stderr
    assert list(tmp_path.glob("data.tar*")) == []

    held = api.cluster.run(name="train", workspace="data")
    head, row = lease("workspace", "ls").stdout.splitlines()
    assert head.split("  ")[0] == "NAME"
    assert row.split()[:6] == ["data", "?", "2G", "watched", "local", "train"]
    said = lease("workspace", "show", "data").stdout
    assert "2G, watched: above it nothing new may write to it" in said
    assert json.loads(lease("workspace", "show", "data", "--json").stdout)["used_by"][0]["lease"] == "train"
    assert lease("workspace", "set", "data", "--quota", "3G").stdout == "Workspace data may hold 3G.\n"

    api.cluster.driver.archived = [b"abc", b"def"]
    file = tmp_path / "data.tar"
    assert (
        lease("workspace", "export", "data", "-o", str(file)).stdout
        == f"6B of workspace data are in {file}.\n"
    )
    assert file.read_bytes() == b"abcdef"
    api.cluster.driver.archived = [b"piped"]
    assert lease("workspace", "export", "data").stdout == "piped"

    refused = lease("workspace", "rm", "data", "--yes")
    assert refused.returncode == 1
    assert "in use by train" in refused.stderr
    assert "lease release train" in refused.stderr
    api.cluster.release(held.id)
    api.cluster.work()
    unsure = lease("workspace", "rm", "data")
    assert "lease workspace rm data --yes" in unsure.stderr
    assert lease("workspace", "rm", "data", "--yes").stdout == "Workspace data is deleted.\n"
    gone = lease("workspace", "show", "data", "--json")
    assert gone.returncode == 5
    assert json.loads(gone.stdout)["code"] == "not_found"


def test_an_export_that_breaks_off_leaves_no_file(api: Served, lease: Lease, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"some"
        raise OSError

    api.cluster.run(workspace="data")
    api.cluster.driver.archived = broken()
    failed = lease("workspace", "export", "data", "-o", str(tmp_path / "data.tar"))
    assert failed.returncode == 75, failed
    assert list(tmp_path.glob("data.tar*")) == []
    assert api.cluster.driver.helpers == {}


def test_refusals_name_limit_and_way_out(lease: Lease) -> None:
    for words, code, said in (
        (("create", "No"), 2, "cannot be a name"),
        (("create", "data", "--project", "nope"), 5, "no project 'nope'"),
        (("create", "data", "--quota", "9P"), 4, "1T at most"),
        (("show", "a/b/c"), 2, "names no workspace"),
        (("show", "../x"), 2, "names no workspace"),
        (("export", "data", "--json"), 2, "-o data.tar"),
    ):
        answer = lease("workspace", *words)
        assert answer.returncode == code, (words, answer)
        assert said in answer.stderr + answer.stdout
    busy = lease("up", "--workspace", "Data", "--image", IMAGE)
    assert busy.returncode == 2
    assert "Yours: data. A project's: vision/data. To read only: data:ro." in busy.stderr
