"""The sandbox that holds a running lease's network dies: the lease is started anew, and is reached again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from leasing import names
from leasing.model import Run
from leasing.settings.scheduler import SchedulerSettings
from tests.e2e.test_crash_ready import keep
from tests.support.cluster import Cluster, on_docker
from tests.support.images import BUSYBOX

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with on_docker(database_url, SchedulerSettings(retry_seconds=0.01, stop_grace_seconds=0)) as made:
        yield made


def test_a_lease_whose_sandbox_died_has_a_network_again(cluster: Cluster) -> None:
    keep(cluster, 1)
    lease = cluster.run(image=BUSYBOX, cpus="0.1", command=["sleep", "600"])
    engine = cluster.fleet.engine(cluster.node_id)
    with cluster.sessions() as session:
        (run,) = session.execute(sa.select(Run).where(Run.lease_id == lease.id)).scalars()
    assert run.warm_id is not None
    engine.stop(names.warm(cluster.installation, run.warm_id), grace_seconds=0)

    assert cluster.compare() == 1
    cluster.work()
    assert cluster.lease(lease.id).state == "running"
    found = engine.inspect(cluster.container(lease.id))
    assert found is not None
    assert found.running
    assert found.address is not None
    assert "eth0" in engine.run(found.id, ["cat", "/proc/net/dev"], seconds=10).output
    assert cluster.compare() == 0
