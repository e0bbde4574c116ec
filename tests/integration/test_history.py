"""What the platform tells of the past, from real rows, and what a simulation makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from leasing import Client, errors
from leasing.cli.app import execute
from leasing.database import now
from leasing.model import Lease
from leasing.service import history
from leasing.states import Role, Verdict
from scheduler.simulation import recorded
from scheduler.simulation.play import play
from scheduler.simulation.world import Options
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


def over(cluster: Cluster, name: str) -> Lease:
    """A lease that has run and has been released."""
    lease = cluster.run(name=name, gpu="1", ttl="1h", env={"PASSWORD": "s3cret"}, command=["hush-hush"])
    cluster.release(lease.id)
    cluster.work()
    return lease


def test_the_last_days_come_in_pages_with_times_and_without_anything_private(cluster: Cluster) -> None:
    ended = over(cluster, "ended")
    running, queued = cluster.run(name="running", gpu="1"), cluster.ask(name="queued", gpu="2")
    with cluster.sessions.begin() as session:
        moment = now(session)
        long_ago = moment - timedelta(days=40)
        session.add(Lease(**_facts(session.get_one(Lease, ended.id)), name="old", ended_at=long_ago))
        session.execute(
            sa.update(Lease)
            .where(Lease.id == ended.id)
            .values(idle_verdict=Verdict.IDLE, idle_since=moment - timedelta(hours=1))
        )
    with cluster.sessions() as session:
        first = history.page(session, days=30, cursor=None, limit=2, now=moment)
        second = history.page(session, days=30, cursor=first.next, limit=2, now=moment)
    assert [one.id for one in first.items + second.items] == [ended.id, running.id, queued.id]
    assert second.next is None
    (node,), (one, other, last) = first.nodes, first.items + second.items
    assert (node.name, len(node.devices), second.nodes) == ("local", 2, [])
    assert (one.owner, one.project, one.gpu_count, one.seconds) == ("ada", "default", 1, 3600)
    assert one.placed_at is not None
    assert one.held_seconds > 0
    assert one.idle_since is not None
    assert other.held_seconds > 0
    assert (last.placed_at, last.held_seconds) == (None, 0.0)
    said = first.model_dump_json() + second.model_dump_json()
    assert "s3cret" not in said
    assert "hush-hush" not in said


def _facts(lease: Lease) -> dict[str, object]:
    kept = ("owner_id", "project_id", "state", "reason", "image", "gpu_count", "cpus_millis", "memory_bytes")
    return {name: getattr(lease, name) for name in kept}


def test_a_record_written_down_and_read_again_plays_the_same(cluster: Cluster) -> None:
    over(cluster, "one")
    cluster.run(name="two", gpu="2")
    cluster.ask(name="three", gpu="1")
    with cluster.sessions() as session:
        page = history.page(session, days=30, cursor=None, limit=500, now=now(session))
    kept = recorded.read(recorded.lines([page]))
    assert kept == page
    found = recorded.world([kept])
    assert found == recorded.world([page])
    played = play(found, Options())
    assert [one.asked.name for one in played.served] == ["one", "two", "three"]
    assert all(one.ended is not None for one in played.served)


def test_admins_read_it_and_simulate_and_others_do_not(
    api: Served,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    over(cluster, "one")
    with Client(api.url, token(cluster, cluster.ada)) as ada, pytest.raises(errors.NotAllowed):
        list(ada.admin.history())
    root = api.user("root", Role.ADMIN)
    headers = {"Authorization": f"Bearer {root}"}
    assert httpx.get(f"{api.url}/api/v1/history?days=0", headers=headers).status_code == 422
    assert httpx.get(f"{api.url}/api/v1/history?cursor=moon", headers=headers).status_code == 422

    monkeypatch.setenv("LEASING_URL", api.url)
    monkeypatch.setenv("LEASING_TOKEN", root)
    assert execute(["admin", "simulate", "--days", "7", "--idle", "30m"]) == 0
    assert capsys.readouterr().out.startswith("1 leases of 7 days on 2 devices, played twice:")
    assert execute(["admin", "history"]) == 0
    (tmp_path / "record").write_text(capsys.readouterr().out)
    monkeypatch.setenv("LEASING_URL", "http://127.0.0.1:1")
    assert execute(["admin", "simulate", "--trace", str(tmp_path / "record"), "--json"]) == 0
    assert '"leases": 1' in capsys.readouterr().out
