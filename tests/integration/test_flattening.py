"""Files of leases at rest: measured, and made one layer again while nobody waits. Real rows, an engine in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.drivers.protocol import Image
from leasing.errors import DiskFull, EngineDown
from leasing.model import Lease
from scheduler.reconcile import flattening
from tests.support.cluster import Cluster
from tests.support.resting import (
    FILE,
    events_of,
    kept_image,
    name,
    on_engine,
    resume,
    suspend,
    suspended,
    sweep,
)

ROUNDS = 7
WORN = 3


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=2) as made:
        made.settings.flatten_after = WORN
        yield made


def look(cluster: Cluster) -> int:
    return flattening.run_once(
        cluster.sessions, cluster.driver, cluster.driver.probe(), cluster.node_id, cluster.installation,
        cluster.settings,
    )  # fmt: skip


def go_on_and_rest(cluster: Cluster, lease: Lease) -> None:
    resume(cluster, lease)
    cluster.plan()
    cluster.work()
    assert cluster.lease(lease.id).state == "running", cluster.lease(lease.id).message
    suspend(cluster, lease)
    cluster.work()


def image(cluster: Cluster, lease: Lease, generation: int) -> Image:
    found = cluster.driver.find_image(kept_image(cluster, lease, generation))
    assert found is not None
    return found


def worn(cluster: Cluster) -> Lease:
    """One whose next suspension's layer would be too many."""
    lease = suspended(cluster)
    for _ in range(WORN - 1):
        go_on_and_rest(cluster, lease)
    return lease


def test_however_often_it_rests_its_files_are_few_layers_and_all_there(cluster: Cluster) -> None:
    lease = suspended(cluster)
    assert look(cluster) == 1
    assert cluster.lease(lease.id).kept_bytes == len(b"weights")
    assert look(cluster) == 0, "once"
    for generation in range(2, ROUNDS):
        go_on_and_rest(cluster, lease)
        look(cluster)
        sweep(cluster)
        assert image(cluster, lease, generation).layers <= WORN + 1
        assert cluster.driver.file(name(cluster, lease, generation), FILE) == b"weights"
    flattened = [kind for kind, _ in events_of(cluster, lease) if kind == "lease.flattened"]
    assert len(flattened) == (ROUNDS - 1) // WORN
    cluster.release(lease.id)
    sweep(cluster)
    assert on_engine(cluster) == ([], [], [])


def test_who_resumes_finds_it_made_and_it_stays_till_then(cluster: Cluster) -> None:
    lease = worn(cluster)
    look(cluster)
    flat = image(cluster, lease, WORN + 1)
    assert (flat.layers, flat.commits) == (1, 0)
    sweep(cluster)
    resume(cluster, lease)
    sweep(cluster)
    cluster.plan()
    cluster.work()
    assert image(cluster, lease, WORN + 1) == flat
    assert cluster.driver.spec(name(cluster, lease, WORN + 1)).image == flat.tags[0]


def test_an_engine_that_is_away_or_full_keeps_them_as_they_are(cluster: Cluster) -> None:
    lease = worn(cluster)
    facts = cluster.driver.probe()
    cluster.driver.knobs.down = True
    with pytest.raises(EngineDown):
        flattening.run_once(
            cluster.sessions, cluster.driver, facts, cluster.node_id, cluster.installation, cluster.settings
        )
    cluster.driver.knobs.down = False
    cluster.driver.knobs.disk_free_bytes = cluster.settings.disk_reserve_bytes
    assert look(cluster) == 1, "its claim was given back"
    assert cluster.driver.find_image(kept_image(cluster, lease, WORN + 1)) is None
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(kept_bytes=None))
    cluster.driver.knobs.disk_free_bytes = None
    cluster.driver.knobs.commit_error = DiskFull("The disk is full.")
    assert look(cluster) == 1
    cluster.driver.knobs.commit_error = None
    go_on_and_rest(cluster, lease)
    assert cluster.driver.file(name(cluster, lease, WORN + 1), FILE) == b"weights"


def test_whoever_was_killed_at_it_is_followed_by_another(cluster: Cluster) -> None:
    lease = worn(cluster)

    class Killed(BaseException):
        """The process is gone."""

    def killed(*_: object, **__: object) -> Image:
        raise Killed

    real, cluster.driver.flatten = cluster.driver.flatten, killed  # type: ignore[method-assign]  # for this engine
    with pytest.raises(Killed):
        look(cluster)
    cluster.driver.flatten = real  # type: ignore[method-assign]  # as it was
    assert look(cluster) == 0, "another may be at it yet"
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(claim_until=now(session) - timedelta(seconds=1)))
    assert look(cluster) == 1
    assert image(cluster, lease, WORN + 1).layers == 1


def test_one_that_goes_on_meanwhile_is_left_alone(cluster: Cluster) -> None:
    lease = worn(cluster)
    real = cluster.driver.flatten

    def late(*arguments: str, **named: object) -> Image:
        resume(cluster, lease)
        cluster.plan()
        cluster.work()
        return real(*arguments, **named)  # type: ignore[arg-type]  # as it was called

    cluster.driver.flatten = late  # type: ignore[method-assign]  # for this engine
    look(cluster)
    found = cluster.lease(lease.id)
    assert (found.state, found.kept_bytes) == ("running", None)
    assert "lease.flattened" not in [kind for kind, _ in events_of(cluster, lease)]
    assert cluster.driver.file(name(cluster, lease, WORN + 1), FILE) == b"weights"


def test_layers_that_an_engine_would_refuse_are_made_one_on_the_way(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.returning.DEEPEST", 3)
    lease = worn(cluster)
    go_on_and_rest(cluster, lease)
    assert image(cluster, lease, WORN + 1).layers <= 2
    assert cluster.driver.file(name(cluster, lease, WORN + 1), FILE) == b"weights"
