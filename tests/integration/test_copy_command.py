"""`lease cp` and `lease open`, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.api import Served, served, token
from tests.support.cluster import Cluster
from tests.support.terminal import run

Lease = Callable[..., CompletedProcess[str]]


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url) as made:
        yield made


@pytest.fixture
def api(cluster: Cluster, tmp_path: Path) -> Iterator[Served]:
    with served(cluster, tmp_path) as made:
        yield made


@pytest.fixture
def lease(api: Served, cluster: Cluster) -> Lease:
    secret = token(cluster, cluster.ada)
    return lambda *arguments: run(
        *arguments, LEASING_URL=api.url, LEASING_TOKEN=secret, DISPLAY="", BROWSER=""
    )


def test_files_go_there_and_back(cluster: Cluster, lease: Lease, tmp_path: Path) -> None:
    held = cluster.run(name="demo")
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "a.txt").write_text("one")
    (tree / "deep" / "b.bin").write_bytes(bytes(range(256)) * 4000)
    (tree / "link").symlink_to("a.txt")
    (tree / "out").symlink_to("../../elsewhere")

    up = lease("cp", str(tree), "demo:")
    assert (up.returncode, up.stdout) == (0, "2 files, 1000K, to demo:/workspace\n"), up.stderr
    assert "out leads out of" in up.stderr
    container = cluster.container(held.id)
    assert cluster.driver.file(container, "/workspace/tree/a.txt") == b"one"

    # one file under another name; over one that is there; and refused where it cannot be
    assert lease("cp", str(tree / "a.txt"), "demo:tree/c.txt").stdout.endswith(
        "to demo:/workspace/tree/c.txt\n"
    )
    assert cluster.driver.file(container, "/workspace/tree/c.txt") == b"one"
    for arguments, code, said in (
        (("cp", str(tree), "demo:tree/c.txt"), 1, "c.txt is no folder"),
        (("cp", str(tree / "a.txt"), str(tree / "deep"), "demo:nosuch"), 5, "There is no folder nosuch"),
        (("cp", str(tmp_path / "nosuch"), "demo:"), 1, "nosuch: No such file"),
        (("cp", "demo:nosuch", str(tmp_path)), 5, "There is no /workspace/nosuch"),
        (("cp", "demo:tree", str(tmp_path / "no" / "such")), 5, "mkdir -p"),
        (("cp", "demo:tree", "demo:other"), 2, "One side is a lease's"),
        (("cp", "a", "b"), 2, "One side is a lease's"),
        (("cp", "other:a", "."), 5, "no lease 'other'"),
    ):
        refused = lease(*arguments)
        assert refused.returncode == code, (arguments, refused.stderr)
        assert said in refused.stderr

    (tmp_path / "back").mkdir()
    down = lease("cp", "demo:tree", str(tmp_path / "back"), "--json")
    assert json.loads(down.stdout)["files"] == 3
    assert (tmp_path / "back/tree/deep/b.bin").read_bytes() == (tree / "deep" / "b.bin").read_bytes()
    assert lease("cp", "demo:tree/a.txt", str(tmp_path / "named")).returncode == 0
    assert (tmp_path / "named").read_text() == "one"


def test_open_prints_where_there_is_no_browser(cluster: Cluster, lease: Lease, api: Served) -> None:
    cluster.run(name="served", port=8000)
    cluster.run(name="plain")
    cluster.ask(name="waiting")
    for arguments, path in (
        (("served",), "/open/served"),
        (("served", "terminal"), "/leases/served/terminal"),
        (("plain",), "/leases/plain/terminal"),
        (("plain", "files", "--print"), "/leases/plain/files"),
    ):
        assert lease("open", *arguments).stdout == f"{api.url}{path}\n"
    for name, what, said in (
        ("plain", "endpoint", "without a port"),
        ("served", "jupyter", "runs no JupyterLab"),
        ("waiting", "terminal", "lease why waiting"),
    ):
        refused = lease("open", name, what)
        assert refused.returncode == 1
        assert said in refused.stderr
