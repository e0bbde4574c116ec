"""`lease admin warm` against a real api: what is typed, what is printed, and the way out of a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from leasing.states import Role
from tests.support.api import Served, served
from tests.support.cluster import Cluster
from tests.support.terminal import run

Lease = Callable[..., CompletedProcess[str]]


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[Served]:
    with Cluster.opened(database_url) as cluster, served(cluster, tmp_path) as made:
        yield made


@pytest.fixture
def lease(api: Served) -> Lease:
    """The command, as an admin."""
    secret = api.user("root", Role.ADMIN)
    return lambda *words: run("admin", "warm", *words, LEASING_URL=api.url, LEASING_TOKEN=secret)


def test_pools_are_set_shown_and_removed(lease: Lease) -> None:
    assert "For example: lease admin warm set base --count 2" in lease("ls").stdout
    made = lease("set", "base", "--count", "2")
    assert made.stdout == "2 of base with 1 CPUs and 2G will wait on each open node.\n", made.stderr
    lease("set", "base", "--gpu", "A100", "--node", "local", "--memory", "64G")
    shown = [line.split() for line in lease("ls").stdout.splitlines()]
    assert ["base", "each", "–", "1", "2G", "0", "2"] in shown
    assert ["base", "local", "A100", "1", "64G", "0", "1"] in shown
    assert [one["count"] for one in json.loads(lease("ls", "--json").stdout)["pools"]] in ([2, 1], [1, 2])
    assert lease("rm", "base").stdout == "base is kept warm no more.\n"
    assert lease("rm", "base", "--gpu", "A100", "--node", "local").returncode == 0
    refused = lease("rm", "base")
    assert (refused.returncode, "lease admin warm ls" in refused.stderr) == (5, True)
