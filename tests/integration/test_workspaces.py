"""Workspaces: who may do what, one writer at a time, what becomes of the volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import names
from leasing.database import now
from leasing.errors import Conflict, Invalid, NameTaken, NotAllowed, NotFound, OverQuota
from leasing.model import Event, Lease, Member, Project, Workspace
from leasing.schema.lease import LeaseRequest
from leasing.schema.project import MemberIn
from leasing.schema.workspace import WorkspaceIn, WorkspacePatch
from leasing.service import exports, projects, requesting, workspace_views, workspaces
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import LeaseState, ProjectRole, Role
from scheduler.reconcile.workspaces import Workspaces
from tests.support.cluster import IMAGE, LIMITS, Cluster, user

GIB = 1024**3


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url) as made:
        yield made


@pytest.fixture
def team(cluster: Cluster) -> dict[str, Principal]:
    """Of project vision: an owner, a developer (ada) and a viewer; eve is not in it, root is an admin."""
    with cluster.sessions.begin() as session:
        people = {name: user(session, name) for name in ("olga", "victor", "eve")}
        people |= {"ada": cluster.ada, "root": user(session, "root", Role.ADMIN)}
        project = Project(name="vision", open=False)
        session.add(project)
        session.flush()
        for name, role in (("olga", "owner"), ("ada", "developer"), ("victor", "viewer")):
            session.add(Member(project_id=project.id, user_id=people[name].user_id, role=ProjectRole(role)))
    return people


def make(
    cluster: Cluster, who: Principal | None = None, limits: LimitSettings = LIMITS, **wishes: str
) -> UUID:
    with cluster.sessions.begin() as session:
        return workspaces.create(
            session, WorkspaceIn.model_validate(wishes), principal=who or cluster.ada, limits=limits
        ).row.id


def ask(cluster: Cluster, who: Principal, workspace: str, limits: LimitSettings = LIMITS) -> Lease:
    wish = LeaseRequest(image=IMAGE, cpus="1", memory="64M", workspace=workspace)
    with cluster.sessions.begin() as session:
        return requesting.request(
            session, wish, principal=who, limits=limits, idempotency_key=None, now=now(session)
        )


def rm(cluster: Cluster, ref: str, who: Principal | None = None, project: str | None = None) -> None:
    with cluster.sessions.begin() as session:
        workspaces.delete(session, ref, project, principal=who or cluster.ada, now=now(session))


def row(cluster: Cluster, workspace_id: UUID) -> Workspace:
    with cluster.sessions() as session:
        return session.get_one(Workspace, workspace_id)


def edit(cluster: Cluster, workspace_id: UUID, **values: object) -> None:
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Workspace).where(Workspace.id == workspace_id).values(**values))


def stage(cluster: Cluster) -> Workspaces:
    return Workspaces(cluster.sessions, cluster.installation, measure_seconds=600, missing_seconds=600)


def sweep(cluster: Cluster, on: Workspaces | None = None) -> None:
    (on or stage(cluster)).run_once(cluster.driver, cluster.node_id)


def kinds(cluster: Cluster) -> list[str]:
    with cluster.sessions() as session:
        return list(
            session.execute(
                sa.select(Event.kind).where(Event.kind.like("workspace.%")).order_by(Event.id)
            ).scalars()
        )


def volume(cluster: Cluster, workspace_id: UUID) -> str:
    return names.volume(cluster.installation, workspace_id)


def test_the_first_lease_makes_it_and_its_files_outlive_it(cluster: Cluster) -> None:
    lease = cluster.run(workspace="data")
    assert lease.workspace_id is not None
    made = row(cluster, lease.workspace_id)
    assert (made.name, made.node_id, made.quota_bytes) == ("data", cluster.node_id, 50 * GIB)
    cluster.release(lease.id)
    cluster.work()
    sweep(cluster)
    assert cluster.driver.volumes(cluster.installation) == [volume(cluster, made.id)]
    again = cluster.run(workspace="data")
    assert again.workspace_id == made.id


def test_one_whose_files_are_gone_is_not_replaced_by_an_empty_one(cluster: Cluster) -> None:
    """As after a `docker volume prune`, or where the engine came up before its disk was mounted."""
    lease = cluster.run(workspace="data")
    cluster.release(lease.id)
    cluster.work()
    (volume,) = cluster.driver.volumes(cluster.installation)
    cluster.driver.remove_volume(volume)
    again = cluster.ask(workspace="data")
    cluster.plan()
    cluster.work_through_every_try()
    over = cluster.lease(again.id)
    assert (over.state, over.reason) == ("ended", "failed")
    assert "not on its node any more" in over.message
    assert cluster.driver.volumes(cluster.installation) == []


def test_two_first_leases_at_once_make_one(cluster: Cluster) -> None:
    def one(_: int) -> str:
        try:
            return ask(cluster, cluster.ada, "data").name
        except Conflict as error:
            return error.message

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(one, range(4)))
    won = [answer for answer in answers if " " not in answer]
    assert len(won) == 1
    lost = f"Workspace 'data' is in use by lease {won[0]!r}; it has one writer at a time."
    assert sorted(answers) == sorted([*won, lost, lost, lost])
    with cluster.sessions() as session:
        assert session.execute(sa.select(sa.func.count()).select_from(Workspace)).scalar_one() == 1


def test_readers_stand_beside_the_writer(cluster: Cluster) -> None:
    writer = cluster.run(workspace="data")
    reader = cluster.run(workspace="data:ro")
    other = cluster.run(workspace="data:ro")
    spec = cluster.driver.spec(cluster.container(reader.id))
    assert [(mount.volume, mount.read_only) for mount in spec.mounts] == [
        (volume(cluster, UUID(str(writer.workspace_id))), True)
    ]
    assert not cluster.driver.spec(cluster.container(writer.id)).mounts[0].read_only
    with cluster.sessions() as session:
        found = workspace_views.page(session, principal=cluster.ada, everyone=False).items[0]
    assert [(use.lease, use.read_only) for use in found.used_by] == [
        (writer.name, False), (reader.name, True), (other.name, True),
    ]  # fmt: skip
    cluster.release(writer.id)
    cluster.work()
    assert cluster.run(workspace="data").state == LeaseState.RUNNING


def test_to_read_what_is_not_there_makes_nothing(cluster: Cluster) -> None:
    with pytest.raises(NotFound, match="no workspace 'data'"):
        ask(cluster, cluster.ada, "data:ro")
    with cluster.sessions() as session:
        assert session.execute(sa.select(Workspace)).all() == []


def test_a_suspended_lease_blocks_nobody_and_goes_on_when_it_is_free_again(cluster: Cluster) -> None:
    first = cluster.run(name="first", workspace="data")
    cluster.suspend(first.id)
    cluster.work()
    second = cluster.run(name="second", workspace="data")
    with pytest.raises(Conflict, match="in use by lease 'second' now") as caught:
        cluster.resume(first.id)
    assert caught.value.hint == "When that is over (lease release second): lease resume first"
    assert cluster.lease(first.id).state == LeaseState.SUSPENDED
    cluster.suspend(second.id)
    cluster.work()
    cluster.resume(first.id)
    cluster.plan()
    cluster.work()
    assert cluster.lease(first.id).state == LeaseState.RUNNING
    with pytest.raises(Conflict, match="in use by lease 'first' now"):
        cluster.resume(second.id)


def test_a_projects_workspace_is_for_its_members(cluster: Cluster, team: dict[str, Principal]) -> None:
    for stranger in ("eve", "victor"):
        with pytest.raises(NotAllowed, match="Only developers and owners"):
            make(cluster, team[stranger], name="data", project="vision")
    make(cluster, team["ada"], name="data", project="vision", quota="2G")
    with pytest.raises(NameTaken):
        make(cluster, team["olga"], name="data", project="vision")
    make(cluster, team["olga"], name="data")  # her own may be called the same
    with pytest.raises(NotAllowed, match="for the members of project vision"):
        ask(cluster, team["eve"], "vision/data:ro")
    with pytest.raises(NotAllowed, match="You may read workspace vision/data") as caught:
        ask(cluster, team["victor"], "vision/data")
    assert caught.value.hint == "Read it: --workspace vision/data:ro"
    assert ask(cluster, team["victor"], "vision/data:ro").workspace_read_only
    assert not ask(cluster, team["olga"], "vision/data").workspace_read_only
    with pytest.raises(NotFound, match="no workspace 'vision/other'"):
        ask(cluster, team["ada"], "vision/other")
    seen = {}
    with cluster.sessions() as session:
        for name, who in team.items():
            page = workspace_views.page(session, principal=who, everyone=True)
            seen[name] = [(one.ref, one.may_write, one.may_manage) for one in page.items]
    assert seen == {
        "olga": [("data", True, True), ("vision/data", True, True)],
        "victor": [("vision/data", False, False)],
        "eve": [],
        "ada": [("vision/data", True, True)],
        "root": [("data", False, True), ("vision/data", True, True)],
    }


@pytest.mark.parametrize(
    ("who", "may"), [("olga", True), ("ada", False), ("victor", False), ("eve", False), ("root", True)]
)
def test_who_manages_what_another_developer_made(
    cluster: Cluster, team: dict[str, Principal], who: str, may: bool
) -> None:
    with cluster.sessions.begin() as session:
        grace = user(session, "grace")
        projects.set_member(session, "vision", "grace", MemberIn(), principal=team["olga"])
    made = make(cluster, grace, name="data", project="vision")
    edit(cluster, made, node_id=cluster.node_id, last_used_at=sa.func.now())
    acts: list[Callable[[Session], object]] = [
        lambda session: exports.begin(session, "data", "vision", principal=team[who]),
        lambda session: workspaces.change(
            session, "data", "vision", WorkspacePatch(quota="3G"), principal=team[who], limits=LIMITS
        ),
        lambda session: workspaces.delete(session, "data", "vision", principal=team[who], now=now(session)),
    ]
    for act in acts:
        with cluster.sessions.begin() as session:
            if may:
                act(session)
            else:
                with pytest.raises(NotAllowed):
                    act(session)
    assert (row(cluster, made).deleted_at is not None) == may


def test_who_left_the_project_has_no_say_any_more(cluster: Cluster, team: dict[str, Principal]) -> None:
    make(cluster, team["ada"], name="data", project="vision")
    with cluster.sessions.begin() as session:
        projects.remove_member(session, "vision", "ada", principal=team["olga"])
    with pytest.raises(NotAllowed):
        rm(cluster, "data", team["ada"], project="vision")


def test_somebody_elses_is_not_told_apart_by_guessing(cluster: Cluster, team: dict[str, Principal]) -> None:
    made = make(cluster, name="data")
    for ref in (str(made), "data"):
        with pytest.raises((NotAllowed, NotFound)):
            rm(cluster, ref, team["eve"])
    assert row(cluster, made).deleted_at is None
    rm(cluster, str(made), team["root"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/a",
        "a/b/c",
        "../x",
        "Data",
        "data:rw",
        "data:ro:ro",
        ":ro",
        "ａ",
        "a" * 41,
        "x\n",
        "-a",
    ],
)
def test_what_names_no_workspace_is_refused(cluster: Cluster, text: str) -> None:
    with pytest.raises(Invalid, match="names no workspace"):
        ask(cluster, cluster.ada, text)


def test_limits_of_number_and_size_name_the_way_out(cluster: Cluster, team: dict[str, Principal]) -> None:
    few = LimitSettings(workspaces_per_user=1, max_workspace_bytes=GIB, default_workspace_bytes=0)
    with pytest.raises(OverQuota, match="may have 1G at most") as caught:
        make(cluster, limits=few, name="data", quota="2G")
    assert caught.value.hint == "Ask for --quota 1G, or an admin for more."
    with pytest.raises(Invalid, match="the least is 16M"):
        make(cluster, limits=few, name="data", quota="1M")
    made = make(cluster, limits=few, name="data")
    assert row(cluster, made).quota_bytes is None
    with pytest.raises(OverQuota, match="You have made 1 workspaces; the limit is 1"):
        ask(cluster, cluster.ada, "more", limits=few)
    assert ask(cluster, cluster.ada, "data", limits=few).workspace_id == made
    make(cluster, team["root"], limits=few, name="data", quota="2G")


def test_a_node_may_be_named_and_must_exist(cluster: Cluster) -> None:
    with pytest.raises(NotFound, match="no node 'mars'"):
        make(cluster, name="data", node="mars")
    assert row(cluster, make(cluster, name="data", node="local")).node_id == cluster.node_id


def test_a_quota_is_enforced_where_the_engine_can_and_watched_elsewhere(cluster: Cluster) -> None:
    soft = cluster.run(workspace="soft")
    cluster.driver.disk_quota = "loop"
    hard = cluster.run(workspace="hard")
    with cluster.sessions() as session:
        page = workspace_views.page(session, principal=cluster.ada, everyone=False)
    assert {one.name: one.quota_kind for one in page.items} == {"soft": "watched", "hard": "enforced"}
    assert cluster.driver.held_to_size(volume(cluster, UUID(str(hard.workspace_id)))) == 50 * GIB
    # what was a plain volume stays one
    cluster.release(soft.id)
    cluster.work()
    assert row(cluster, UUID(str(cluster.run(workspace="soft").workspace_id))).kind == "volume"


def test_more_is_given_at_the_next_look_and_less_only_where_that_can_be(cluster: Cluster) -> None:
    cluster.driver.disk_quota = "loop"
    lease = cluster.run(workspace="data")
    workspace_id = UUID(str(lease.workspace_id))
    kept = stage(cluster)
    sweep(cluster, kept)
    with cluster.sessions.begin() as session:
        patch = WorkspacePatch(quota="60G")
        workspaces.change(session, "data", None, patch, principal=cluster.ada, limits=LIMITS)
    sweep(cluster, kept)
    assert cluster.driver.held_to_size(volume(cluster, workspace_id)) == 60 * GIB
    patch = WorkspacePatch(quota="20G")
    with cluster.sessions.begin() as session, pytest.raises(Conflict, match="cannot shrink"):
        workspaces.change(session, "data", None, patch, principal=cluster.ada, limits=LIMITS)


def test_a_watched_one_is_measured_warned_of_and_refused(cluster: Cluster) -> None:
    lease = cluster.run(workspace="data")
    workspace_id = UUID(str(lease.workspace_id))
    name = volume(cluster, workspace_id)
    kept = stage(cluster)
    cluster.driver.sizes[name] = 45 * GIB
    sweep(cluster, kept)
    assert row(cluster, workspace_id).size_bytes == 45 * GIB
    edit(cluster, workspace_id, measured_at=sa.func.now() - timedelta(hours=1))
    sweep(cluster, kept)
    assert kinds(cluster) == ["workspace.nearly_full"], "told once"
    cluster.driver.sizes[name] = 51 * GIB
    edit(cluster, workspace_id, measured_at=sa.func.now() - timedelta(hours=1))
    sweep(cluster, kept)
    cluster.release(lease.id)
    cluster.work()
    with pytest.raises(OverQuota, match="holds 51G; its quota is 50G") as caught:
        ask(cluster, cluster.ada, "data")
    assert caught.value.hint is not None
    assert "lease workspace set data --quota 102G" in caught.value.hint
    assert ask(cluster, cluster.ada, "data:ro").workspace_id == workspace_id
    with cluster.sessions.begin() as session:
        patch = WorkspacePatch(quota="102G")
        workspaces.change(session, "data", None, patch, principal=cluster.ada, limits=LIMITS)
    assert ask(cluster, cluster.ada, "data").workspace_id == workspace_id


def test_what_is_not_used_is_not_measured_again(cluster: Cluster) -> None:
    lease = cluster.run(workspace="data")
    workspace_id = UUID(str(lease.workspace_id))
    cluster.release(lease.id)
    cluster.work()
    long_ago = sa.func.now() - timedelta(days=1)
    edit(cluster, workspace_id, measured_at=long_ago + timedelta(minutes=5), last_used_at=long_ago)
    cluster.driver.sizes[volume(cluster, workspace_id)] = GIB
    sweep(cluster)
    assert row(cluster, workspace_id).size_bytes is None
    edit(cluster, workspace_id, measured_at=long_ago)  # it was used after that
    sweep(cluster)
    assert row(cluster, workspace_id).size_bytes == GIB


def test_last_use_is_noted_while_a_lease_has_it(cluster: Cluster) -> None:
    lease = cluster.run(workspace="data")
    workspace_id = UUID(str(lease.workspace_id))
    edit(cluster, workspace_id, last_used_at=sa.func.now() - timedelta(hours=2))
    sweep(cluster)
    with cluster.sessions() as session:
        used = session.get_one(Workspace, workspace_id).last_used_at
        assert used is not None
        assert now(session) - used < timedelta(minutes=1)
