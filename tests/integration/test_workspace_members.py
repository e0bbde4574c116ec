"""A project's workspace and a lease that rests meanwhile: who may use it is asked again when it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import NotAllowed
from leasing.model import Lease, Member, Project, User
from leasing.schema.project import MemberIn
from leasing.schema.workspace import WorkspaceIn
from leasing.service import projects, suspension, workspaces
from leasing.service.principal import Principal
from leasing.states import LeaseState, ProjectRole, Role
from tests.support.cluster import LIMITS, Cluster, user


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url) as made:
        yield made


@pytest.fixture
def team(cluster: Cluster) -> dict[str, Principal]:
    """Of project vision, which has a workspace: an owner and a developer (ada); root is an admin."""
    with cluster.sessions.begin() as session:
        people = {
            "ada": cluster.ada,
            "olga": user(session, "olga"),
            "root": user(session, "root", Role.ADMIN),
        }
        project = Project(name="vision", open=False)
        session.add(project)
        session.flush()
        for name, role in (("olga", ProjectRole.OWNER), ("ada", ProjectRole.DEVELOPER)):
            session.add(Member(project_id=project.id, user_id=people[name].user_id, role=role))
        wish = WorkspaceIn(name="data", project="vision")
        workspaces.create(session, wish, principal=people["olga"], limits=LIMITS)
    return people


def resumed(cluster: Cluster, lease: Lease, who: Principal) -> LeaseState:
    def act(session: Session, row: Lease, at: datetime) -> None:
        suspension.resume(session, row, principal=who, limits=LIMITS, now=at)

    cluster.change(lease.id, act)
    return LeaseState(cluster.lease(lease.id).state)


@pytest.mark.parametrize(
    ("role", "how", "said"),
    [
        (None, "", "ada may not use workspace vision/data any more"),
        (None, ":ro", "ada may not use workspace vision/data any more"),
        ("viewer", "", "ada may read, and not write to, workspace vision/data any more"),
        ("viewer", ":ro", None),
        ("owner", "", None),
    ],
)
def test_who_may_use_it_no_more_does_not_by_resuming(
    cluster: Cluster, team: dict[str, Principal], role: str | None, how: str, said: str | None
) -> None:
    lease = cluster.run(name="first", workspace=f"vision/data{how}")
    cluster.suspend(lease.id)
    cluster.work()
    with cluster.sessions.begin() as session:
        if role is None:
            projects.remove_member(session, "vision", "ada", principal=team["olga"])
        else:
            wish = MemberIn(role=ProjectRole(role))
            projects.set_member(session, "vision", "ada", wish, principal=team["olga"])
    if said is None:
        assert resumed(cluster, lease, cluster.ada) is LeaseState.QUEUED
        return
    for who in ("ada", "root"):  # it is ada's lease, whoever lets it go on
        with pytest.raises(NotAllowed, match=said) as caught:
            resumed(cluster, lease, team[who])
        assert caught.value.hint is not None
        assert caught.value.hint.endswith("lease release first")
    assert cluster.lease(lease.id).state == LeaseState.SUSPENDED
    with cluster.sessions.begin() as session:
        session.execute(sa.update(User).where(User.name == "ada").values(role=Role.ADMIN))
    assert resumed(cluster, lease, cluster.ada) is LeaseState.QUEUED, (
        "an admin may, as when asking for a lease"
    )


def test_one_of_ones_own_needs_no_project(cluster: Cluster) -> None:
    lease = cluster.run(workspace="data")
    cluster.suspend(lease.id)
    cluster.work()
    assert resumed(cluster, lease, cluster.ada) is LeaseState.QUEUED
