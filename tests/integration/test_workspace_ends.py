"""The ends of workspaces: deleting, exporting, what belongs to nobody; and one writer at a time, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leasing.errors import Conflict, DriverError, EngineDown, Gone, LeasingError, NotFound, OverQuota
from leasing.model import Event, Lease, Node, Workspace, WorkspaceExport
from leasing.schema.project import ProjectIn
from leasing.service import exports, projects
from leasing.states import LeaseState, NodeHealth, Role
from scheduler.reconcile.orphans import Orphans
from tests.integration.test_workspaces import kinds, make, rm, row, sweep, volume
from tests.support.api import served, token
from tests.support.calendar import add_node
from tests.support.cluster import Cluster, user
from tests.support.stack import until


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url) as made:
        yield made


def used(cluster: Cluster, name: str = "data") -> UUID:
    """A workspace with a volume, that no lease has now."""
    lease = cluster.run(workspace=name)
    cluster.release(lease.id)
    cluster.work()
    assert lease.workspace_id is not None
    return lease.workspace_id


def test_deleting_takes_the_volume_and_frees_the_name(cluster: Cluster) -> None:
    first = used(cluster)
    rm(cluster, "data")
    second = used(cluster)
    assert second != first
    sweep(cluster)
    sweep(cluster)
    assert cluster.driver.volumes(cluster.installation) == [volume(cluster, second)]
    assert row(cluster, first).removed_at is not None
    assert kinds(cluster) == ["workspace.deleted", "workspace.removed"]


def test_what_a_lease_has_or_may_go_on_with_is_not_deleted(cluster: Cluster) -> None:
    lease = cluster.run(name="train", workspace="data")
    for _ in range(2):
        with pytest.raises(Conflict, match="in use by train") as caught:
            rm(cluster, "data")
        assert caught.value.hint == "They go first: lease release train"
        cluster.suspend(lease.id)
        cluster.work()
    cluster.release(lease.id)
    rm(cluster, "data")
    assert row(cluster, UUID(str(lease.workspace_id))).deleted_at is not None


def test_a_kill_around_the_removal_only_does_it_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed = used(cluster)
    rm(cluster, "data")
    real = cluster.driver.remove_volume

    def killed_before(_: str) -> None:
        raise KeyboardInterrupt

    def killed_after(name: str) -> None:
        real(name)
        raise KeyboardInterrupt

    for killed in (killed_before, killed_after):
        with monkeypatch.context() as patched:
            patched.setattr(cluster.driver, "remove_volume", killed)
            with pytest.raises(KeyboardInterrupt):
                sweep(cluster)
        assert row(cluster, doomed).removed_at is None
    sweep(cluster)
    assert row(cluster, doomed).removed_at is not None
    assert cluster.driver.volumes(cluster.installation) == []
    assert kinds(cluster).count("workspace.removed") == 1


def test_the_engine_s_refusal_or_absence_puts_the_removal_off(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed = used(cluster)
    rm(cluster, "data")
    cluster.driver.knobs.down = True
    with pytest.raises(EngineDown):
        sweep(cluster)
    cluster.driver.knobs.down = False

    def in_use(name: str) -> None:
        raise DriverError(f"The volume {name} is in use.")

    with monkeypatch.context() as patched:
        patched.setattr(cluster.driver, "remove_volume", in_use)  # by a container on its way out
        sweep(cluster)
    assert row(cluster, doomed).removed_at is None
    sweep(cluster)
    assert row(cluster, doomed).removed_at is not None


def test_one_that_was_never_used_is_gone_at_once(cluster: Cluster) -> None:
    made = make(cluster, name="data")
    rm(cluster, "data")
    assert row(cluster, made).removed_at is not None


def test_a_volume_that_no_row_knows_is_told_of_once_and_stays(cluster: Cluster) -> None:
    own = used(cluster)
    stray = f"leasing-{cluster.installation}-ws-0123456789ab"
    cluster.driver.ensure_volume(stray, installation=cluster.installation, size_bytes=None)
    cluster.driver.ensure_volume("leasing-0badcafe-ws-1", installation="0badcafe", size_bytes=None)
    for _ in range(2):
        sweep(cluster)  # each as if by a new process
    with cluster.sessions() as session:
        told = session.execute(
            sa.select(Event.message).where(Event.kind == "workspace.unknown_volume")
        ).scalars()
        assert list(told) == [f"volume {stray} belongs to no workspace; it is left alone"]
    assert set(cluster.driver.volumes(cluster.installation)) == {stray, volume(cluster, own)}


def test_a_workspace_keeps_its_leases_on_its_node(cluster: Cluster) -> None:
    used(cluster)
    add_node(cluster, "other", devices=0)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Node).where(Node.name == "local").values(health=NodeHealth.UNREACHABLE))
    lease = cluster.ask(workspace="data")
    cluster.plan()
    waits = cluster.lease(lease.id)
    assert waits.state == LeaseState.QUEUED
    assert any("its workspace lies on another node" in why for why in waits.blockers)
    with (
        cluster.sessions.begin() as session,
        pytest.raises(Conflict, match="on node local, which is unreachable"),
    ):
        exports.begin(session, "data", None, principal=cluster.ada)
    cluster.release(lease.id)
    rm(cluster, "data")
    fresh = cluster.ask(workspace="data")
    cluster.plan()
    assert cluster.lease(fresh.id).state == LeaseState.PLACED, (
        "its name is free, and it goes where there is room"
    )


def test_two_leases_of_a_new_workspace_come_to_one_node(cluster: Cluster) -> None:
    add_node(cluster, "other", devices=0)
    make(cluster, name="data")
    leases = [cluster.ask(workspace="data", node="local"), cluster.ask(workspace="data:ro", node="other")]
    cluster.plan()
    states = sorted(cluster.lease(one.id).state for one in leases)
    assert states == [LeaseState.PLACED, LeaseState.QUEUED]
    cluster.plan()
    assert cluster.lease(leases[1].id).blockers


def test_a_project_with_workspaces_is_not_deleted(cluster: Cluster) -> None:
    with cluster.sessions.begin() as session:
        root = user(session, "root", Role.ADMIN)
        projects.create(session, ProjectIn(name="vision"), principal=root)
    make(cluster, root, name="data", project="vision")
    with (
        cluster.sessions.begin() as session,
        pytest.raises(Conflict, match="has 1 workspace: data") as caught,
    ):
        projects.delete(session, "vision", principal=root)
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("lease workspace rm vision/data")
    rm(cluster, "data", root, project="vision")
    with cluster.sessions.begin() as session:
        projects.delete(session, "vision", principal=root)


def exporting(cluster: Cluster) -> list[UUID]:
    with cluster.sessions() as session:
        return exports.live(session)


def test_an_export_flows_and_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    cluster.driver.archived = (b"x" * 100_000 for _ in range(50))
    used(cluster)
    with served(cluster, tmp_path) as api, api.client(token(cluster, cluster.ada)) as ada:
        answer = ada.get("/workspaces/data/export")
        assert (answer.status_code, len(answer.content)) == (200, 5_000_000)
        assert answer.headers["content-disposition"] == 'attachment; filename="data.tar"'
        stranger = api.client(api.user("eve"))
        with stranger:
            assert stranger.get("/workspaces/data/export").status_code == 404
    assert cluster.driver.helpers == {}
    assert exporting(cluster) == []
    assert "workspace.exported" in kinds(cluster)


def test_who_hangs_up_leaves_no_helper_and_no_claim(cluster: Cluster, tmp_path: Path) -> None:
    cluster.driver.archived = (b"x" * 1_000_000 for _ in iter(int, 1))
    used(cluster)
    with served(cluster, tmp_path) as api, api.client(token(cluster, cluster.ada)) as ada:
        with ada.stream("GET", "/workspaces/data/export") as answer:
            assert answer.status_code == 200
            pieces = answer.iter_bytes()  # held: letting go of it hangs up
            assert next(pieces)
            assert len(cluster.driver.helpers) == 1
            sweeper = Orphans(cluster.sessions, cluster.installation, grace_seconds=0, lost_keep_days=7)
            assert sweeper.run_once(cluster.driver, cluster.node_id) == [], "it is somebody's"
        until(lambda: not cluster.driver.helpers and not exporting(cluster), what="the end of the export")


def test_an_export_is_cut_when_its_reader_may_no_more(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "BEAT_SECONDS", 0.05)
    cluster.driver.archived = (b"x" * 1_000_000 for _ in iter(int, 1))
    used(cluster)
    with served(cluster, tmp_path) as api, api.client(token(cluster, cluster.ada)) as ada:
        with ada.stream("GET", "/workspaces/data/export") as answer:
            pieces = answer.iter_bytes()
            next(pieces)
            rm(cluster, "data")
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in pieces:
                    pass
        until(lambda: not exporting(cluster), what="the end of the export")


def test_an_export_that_can_not_be_looked_after_is_cut(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "BEAT_SECONDS", 0.05)
    cluster.driver.archived = (b"x" * 1_000_000 for _ in iter(int, 1))
    used(cluster)
    with (
        served(cluster, tmp_path) as api,
        api.client(token(cluster, cluster.ada)) as ada,
        ada.stream("GET", "/workspaces/data/export") as answer,
    ):
        pieces = answer.iter_bytes()
        next(pieces)
        monkeypatch.delattr(exports, "still")
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in pieces:
                pass


def test_the_helper_of_a_process_that_is_gone_goes_too(cluster: Cluster) -> None:
    workspace_id = used(cluster)
    with cluster.sessions.begin() as session:
        export = exports.begin(session, "data", None, principal=cluster.ada)
    cluster.driver.archive(export.volume, name=export.container, installation=cluster.installation)
    orphans = Orphans(cluster.sessions, cluster.installation, grace_seconds=0, lost_keep_days=7)
    assert orphans.run_once(cluster.driver, cluster.node_id) == []
    rm(cluster, "data")
    sweep(cluster)
    assert row(cluster, workspace_id).removed_at is None, "it is being read"
    with cluster.sessions.begin() as session:
        session.execute(sa.update(WorkspaceExport).values(until=sa.func.now() - timedelta(days=2)))
    assert orphans.run_once(cluster.driver, cluster.node_id) == [export.container]
    sweep(cluster)
    assert row(cluster, workspace_id).removed_at is not None
    with cluster.sessions() as session:
        assert session.execute(sa.select(WorkspaceExport)).all() == []


def test_exports_are_few(cluster: Cluster) -> None:
    used(cluster)
    with cluster.sessions.begin() as session:
        for _ in range(exports.MOST):
            exports.begin(session, "data", None, principal=cluster.ada)
        with pytest.raises(OverQuota, match="2 exports under way; the limit is 2"):
            exports.begin(session, "data", None, principal=cluster.ada)


def test_there_is_nothing_to_export_of_what_was_never_used(cluster: Cluster) -> None:
    make(cluster, name="data", node="local")
    with cluster.sessions.begin() as session, pytest.raises(Conflict, match="no lease has had it yet"):
        exports.begin(session, "data", None, principal=cluster.ada)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["write", "read", "suspend", "resume", "release"]), st.integers(0, 3)),
        min_size=4, max_size=14,
    )
)  # fmt: skip
def test_one_writer_at_a_time_whatever_happens(cluster: Cluster, deeds: list[tuple[str, int]]) -> None:
    """And what is refused is refused only because another lease has it, by name."""
    mine: list[Lease] = []
    refused: list[tuple[LeasingError, list[str]]] = []
    for deed, which in deeds:
        live = [one for one in mine if cluster.lease(one.id).state != LeaseState.ENDED]
        chosen = live[which % len(live)] if live else None
        holders = _writers(cluster)
        try:
            if deed in ("write", "read") and len(live) < 4:
                mine.append(cluster.ask(workspace="data" if deed == "write" else "data:ro"))
            elif chosen is not None and deed in ("suspend", "resume", "release"):
                getattr(cluster, deed)(chosen.id)
        except LeasingError as error:
            refused.append((error, holders))
        cluster.plan()
        cluster.work()
        assert len(_writers(cluster)) <= 1
        readers = [one for one in mine if cluster.lease(one.id).workspace_read_only]
        assert all(cluster.lease(one.id).state != LeaseState.QUEUED for one in readers), (
            "readers wait for nobody"
        )
    for said, holders in refused:
        if "in use by" in said.message:
            assert holders
            assert holders[0] in said.message
        else:  # there is nothing to read yet, or nothing to suspend or to resume
            assert isinstance(said, NotFound | Gone | Conflict)
    for one in mine:
        cluster.release(one.id)
    cluster.work()
    assert _writers(cluster) == []
    with cluster.sessions() as session:
        assert session.execute(sa.select(sa.func.count()).select_from(Workspace)).scalar_one() <= 1


def _writers(cluster: Cluster) -> list[str]:
    """Those with a container, or on the way to one."""
    with cluster.sessions() as session:
        return list(
            session.execute(
                sa.select(Lease.name).where(
                    Lease.state.not_in(["ended", "suspended"]), sa.not_(Lease.workspace_read_only),
                    Lease.workspace_id.is_not(None),
                )
            ).scalars()
        )  # fmt: skip
