"""An api that listens, and clients of it: ada, and root who is an admin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from leasing import Client
from leasing.states import Role
from tests.support.api import Served, served, token
from tests.support.cluster import Cluster


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        yield made


@pytest.fixture
def api(cluster: Cluster, tmp_path: Path) -> Iterator[Served]:
    with served(cluster, tmp_path) as made:
        yield made


@pytest.fixture
def ada(api: Served, cluster: Cluster) -> Iterator[Client]:
    with Client(api.url, token(cluster, cluster.ada)) as client:
        yield client


@pytest.fixture
def root(api: Served) -> Iterator[Client]:
    with Client(api.url, api.user("root", Role.ADMIN)) as client:
        yield client
