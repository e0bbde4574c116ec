"""Leases of parts of devices, from the ask to the rows, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.errors import NeverFits, OverQuota
from leasing.model import Allocation, Quota, Run
from leasing.service import offers as service
from tests.support.cluster import Cluster


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=8) as made:
        yield made


def test_parts_of_devices_are_packed_and_never_more_than_there_is(cluster: Cluster) -> None:
    """Eight devices of 40 GiB: three halves of one by share and by memory, a whole one, and what is left."""
    half, by_memory = cluster.run(gpu="0.5"), cluster.run(gpu="20GB")
    whole, third = cluster.run(gpu="1"), cluster.run(gpu="0.5")
    with cluster.sessions() as session:
        held = {
            run.lease_id: (allocation.device_id, allocation.share, allocation.memory_bytes // 2**30)
            for allocation, run in session.execute(
                sa.select(Allocation, Run).join(Run, Run.id == Allocation.run_id)
            )
        }
    assert held[half.id] == held[by_memory.id], "the same device, the same half"
    assert held[half.id][1:] == (500, 20)
    assert held[whole.id][1:] == (1000, 40)
    assert len({held[one.id][0] for one in (half, whole, third)}) == 3
    assert cluster.lease(by_memory.id).gpu_share == 500
    with cluster.sessions() as session:
        page = service.offers(session, now=now(session))
    (offer,) = page.items
    assert offer.devices_free == {"NVIDIA A100-SXM4-40GB": 5}
    assert [(part.share, part.memory_bytes // 2**30) for part in offer.parts_free] == [(500, 20)]


def test_what_no_device_has_is_refused_at_once(cluster: Cluster) -> None:
    with pytest.raises(NeverFits, match=r"No device has 50G of memory; the largest has 40G"):
        cluster.ask(gpu="50GB")
    with pytest.raises(NeverFits, match=r"No node has a device of model '1g.10gb'"):
        cluster.ask(gpu="1g.10gb")


def test_parts_count_as_parts_of_the_quota(cluster: Cluster) -> None:
    with cluster.sessions.begin() as session:
        session.add(Quota(user_id=cluster.ada.user_id, max_devices=1))
    cluster.ask(gpu="0.5")
    cluster.ask(gpu="16GB")
    with pytest.raises(OverQuota, match=r"That would be 1.15 devices for ada; the limit is 1 \(0.9 held"):
        cluster.ask(gpu="0.25")
