"""What the gateway reads of who may come in: only what changed, and yet always what a whole read would say."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from api.gateway.authorise import Refusal, Upstream, authorise
from api.gateway.grants import Grants, View
from leasing.database import now
from leasing.errors import Unavailable
from leasing.model import Event, Lease, Member, Part, Project, Run, Token, TokenKind, User
from leasing.schema.people import LeaseTokenIn
from leasing.service import people, revocation, sharing, tickets
from leasing.states import LeaseState, ProjectRole
from tests.support.cluster import Cluster, user
from tests.support.stack import until


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url) as made:
        yield made


@pytest.fixture
def grants(cluster: Cluster) -> Grants:
    made = Grants(cluster.sessions, 5.0)
    made.load()
    return made


def whole(cluster: Cluster) -> View:
    """As somebody reads it who knows nothing yet."""
    fresh = Grants(cluster.sessions, 5.0)
    fresh.load()
    return fresh.view


def agrees(cluster: Cluster, grants: Grants) -> View:
    """What it holds, which is what a whole read says; secrets that expired since are in neither."""
    grants.load()
    held, fresh = grants.view, whole(cluster)
    assert held.visitors == fresh.visitors
    assert held.targets == fresh.targets
    return held


def member(session: Session, user_id: object, role: ProjectRole) -> None:
    project_id = session.execute(sa.select(Project.id).where(Project.name == "default")).scalar_one()
    session.add(Member(project_id=project_id, user_id=user_id, role=role))


def test_every_change_is_taken_in_and_nothing_else_is_read(cluster: Cluster, grants: Grants) -> None:
    lease = cluster.run(name="app", port=8000)
    assert agrees(cluster, grants).targets["app"].generation == 1
    with cluster.sessions.begin() as session:
        eve = user(session, "eve")
        member(session, eve.user_id, ProjectRole.VIEWER)
    before = agrees(cluster, grants)
    steps = [
        sa.update(Lease).values(shared=True, endpoint={"rate": 3.0}),
        sa.update(Member).values(role=ProjectRole.DEVELOPER),
        sa.delete(Member),
        sa.update(User).where(User.name == "eve").values(disabled_at=sa.func.now()),
        sa.update(User).where(User.name == "eve").values(disabled_at=None, role="admin"),
        sa.update(Token).where(Token.user_id == eve.user_id).values(revoked_at=sa.func.now()),
        sa.update(Token).where(Token.user_id == eve.user_id).values(revoked_at=None),
        sa.update(Token).where(Token.user_id == eve.user_id).values(expires_at=now_and(seconds=-1)),
        sa.delete(Token).where(Token.user_id == eve.user_id),
        sa.update(Run).values(address="10.1.2.3"),
        sa.update(Run).values(released_at=sa.func.now()),
        sa.update(Lease).values(state="ended", reason="released", ended_at=sa.func.now()),
        sa.delete(Run),
    ]
    for step in steps:
        with cluster.sessions.begin() as session:
            session.execute(step)
        agrees(cluster, grants)
    held = agrees(cluster, grants)
    assert held.targets["app"].state == LeaseState.ENDED
    ada = next(secret for secret, one in held.visitors.items() if one.name == "ada")
    assert held.visitors[ada] is before.visitors[ada]  # she did not change, and was not read again
    cluster.ask(name="app", port=1)  # a live one of that name counts, not the one that ended
    assert agrees(cluster, grants).targets["app"].lease_id != lease.id


def now_and(seconds: int) -> sa.ColumnElement[datetime]:
    return sa.func.now() + timedelta(seconds=seconds)


def test_a_change_that_was_under_way_at_a_read_is_taken_in_by_the_next(
    cluster: Cluster, grants: Grants
) -> None:
    """Also one in a subtransaction, which no snapshot lists; while later transactions come and go."""
    slow = cluster.sessions()
    slow.execute(sa.select(sa.func.pg_current_xact_id()))
    with slow.begin_nested():
        slow.execute(sa.update(User).where(User.name == "ada").values(role="admin"))  # which no count tells
    for number in range(3):
        with cluster.sessions.begin() as session:
            user(session, f"later-{number}")
        grants.load()
        assert not any(one.admin for one in grants.view.visitors.values())
    slow.commit()
    slow.close()
    assert any(one.admin for one in agrees(cluster, grants).visitors.values())


def test_a_server_started_anew_is_read_in_full(cluster: Cluster, grants: Grants) -> None:
    """A restored copy counts its transactions from elsewhere, so that no row may look changed."""
    with cluster.sessions.begin() as session:
        session.execute(sa.update(User).values(role="admin"))  # which no count tells
    rows = grants._assembly._rows
    rows._past = dict.fromkeys(rows._past, "900000")
    grants.load()
    assert not any(one.admin for one in grants.view.visitors.values())
    rows._server, rows._past = "another", dict.fromkeys(rows._past, "900000")
    assert any(one.admin for one in agrees(cluster, grants).visitors.values())


def test_a_secret_that_expires_is_forgotten(cluster: Cluster, grants: Grants) -> None:
    with cluster.sessions.begin() as session:
        moment = now(session)
        _, secret = people.issue(
            session,
            cluster.ada.user_id,
            TokenKind.API,
            "short",
            expires_at=moment + timedelta(seconds=4),
        )
    grants.load()
    assert grants.visitor(secret, moment) is not None
    assert grants.visitor(secret, moment + timedelta(seconds=4)) is None
    count = len(grants.view.visitors)

    def visitors() -> int:
        grants.load()
        return len(grants.view.visitors)

    until(lambda: visitors() == count - 1, what="its being forgotten")
    agrees(cluster, grants)
    with cluster.sessions.begin() as session:
        moment = now(session)
        people.prune(session, now=moment + timedelta(days=30))  # one good for ever stays
        left = session.execute(sa.select(Token.label, Token.expires_at)).all()
    assert [expires for _, expires in left] == [None]
    agrees(cluster, grants)


def test_roles_and_tokens_for_one_lease_decide_who_is_let_in(cluster: Cluster, grants: Grants) -> None:
    lease, other = cluster.run(name="app", port=8000), cluster.run(name="other", port=8000)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Run).values(address="127.0.0.1"))
        eve = user(session, "eve")
        member(session, eve.user_id, ProjectRole.VIEWER)
        signed_in, own = people.issue(session, eve.user_id, TokenKind.API, "test", expires_at=None)
        row = session.get_one(Lease, lease.id)
        moment = now(session)
        sharing.share(session, row, True, principal=cluster.ada)
        made = sharing.create_token(session, row, LeaseTokenIn(), principal=eve, now=moment)
        ticket = tickets.issue(
            session, user_id=eve.user_id, lease_id=lease.id, opened_by=signed_in.id, now=moment
        )
        cookie = tickets.redeem(session, ticket, lease.id, lasts=timedelta(hours=1), now=moment)
    assert made.secret is not None

    def verdict(secret: str | None, name: str) -> object:
        grants.load()
        visitor = grants.visitor(secret, moment) if secret else None
        found = authorise(visitor, grants.target(name))
        return "in" if isinstance(found, Upstream) else found

    for secret in (own, made.secret, cookie):
        assert verdict(secret, "app") == "in"
    assert verdict(own, other.name) is Refusal.NOT_SHARED
    assert verdict(made.secret, other.name) is Refusal.OTHER_LEASE
    assert verdict(made.secret, "nosuch") is Refusal.OTHER_LEASE
    assert verdict(cookie, other.name) is Refusal.OTHER_LEASE
    assert verdict(None, "app") is Refusal.NOT_SIGNED_IN
    with cluster.sessions.begin() as session:
        sharing.share(session, session.get_one(Lease, lease.id), False, principal=cluster.ada)
    for secret in (own, made.secret, cookie):
        assert verdict(secret, "app") is Refusal.NOT_SHARED
    with cluster.sessions.begin() as session:
        sharing.share(session, session.get_one(Lease, lease.id), True, principal=cluster.ada)
        session.execute(sa.delete(Member))
    for secret in (own, made.secret, cookie):  # whoever made a token for it may call it no more
        assert verdict(secret, "app") is Refusal.NOT_YOURS
    with cluster.sessions() as session:
        kinds = session.execute(
            sa.select(Event.kind).where(Event.lease_id == lease.id, Event.kind.like("lease.%shared"))
        )
        assert list(kinds.scalars()) == ["lease.shared", "lease.unshared", "lease.shared"]


def test_a_view_counts_once_all_who_follow_have_it_and_the_platform_knows(cluster: Cluster) -> None:
    part_id = uuid4()
    grants = Grants(cluster.sessions, 5.0, part_id)
    seen: list[View] = []
    broken = [True]

    def follow(view: View) -> None:
        seen.append(view)
        if broken:
            raise ConnectionRefusedError("nothing listens")

    grants.on_load(follow)
    with pytest.raises(Unavailable, match="nothing listens"):
        grants.load()
    assert {grants.current} == {False}
    with cluster.sessions.begin() as session:
        assert session.get(Part, part_id) is None
        mark = revocation.mark(session)
        session.add(Part(role="gateway", host="elsewhere", pid=1))
    with cluster.sessions() as session:
        assert not revocation.in_force(session, mark)  # one that lives has said nothing yet
    broken.clear()
    grants.load()
    assert {grants.current} == {True}
    assert seen[-1] is grants.view
    with cluster.sessions() as session:
        assert session.get_one(Part, part_id).grants == grants.view.snapshot
        assert not revocation.in_force(session, mark)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Part).where(Part.host == "elsewhere").values(seen_at=now_and(seconds=-60)))
    with cluster.sessions() as session:
        assert revocation.in_force(session, mark)  # who is silent for so long lets nobody in
        assert session.get_one(Part, part_id).host == socket.gethostname()
    with cluster.sessions.begin() as session:
        later = revocation.mark(session)
    with cluster.sessions() as session:
        assert not revocation.in_force(session, later)
    grants.load()
    with cluster.sessions() as session:
        assert revocation.in_force(session, later)


def test_a_load_takes_little_of_five_thousand_tokens(cluster: Cluster) -> None:
    """Against reading all of it in the same run: no absolute time, for the machine is shared."""
    with cluster.sessions.begin() as session:
        session.execute(
            sa.text(
                "INSERT INTO users (name, role) SELECT 'u' || i, 'developer' FROM generate_series(1, 500) i"
            )
        )
        session.execute(
            sa.text(
                "INSERT INTO token (user_id, kind, hash, label) SELECT id, 'api', sha256((name || i)::bytea), '' "
                "FROM users, generate_series(1, 10) i"
            )
        )
    whole_ones, small = [], []
    for _ in range(3):
        grants = Grants(cluster.sessions, 5.0)
        whole_ones.append(_timed(grants))
        with cluster.sessions.begin() as session:
            chosen = sa.select(Token.id).where(Token.revoked_at.is_(None)).limit(1).scalar_subquery()
            session.execute(sa.update(Token).where(Token.id == chosen).values(revoked_at=sa.func.now()))
        before = len(grants.view.visitors)
        small.append(_timed(grants))
        assert len(grants.view.visitors) == before - 1
    assert min(small) < min(whole_ones) / 3


def _timed(grants: Grants) -> float:
    began = time.perf_counter()
    grants.load()
    return time.perf_counter() - began
