"""Sharing, tokens for one lease, and revocations, through the api and a gateway that serve."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

import web
from api import revoking
from api.deps import COOKIE
from api.revoking import HEADER
from leasing import Client, errors
from leasing.cli.app import execute
from leasing.database import now
from leasing.errors import NotSignedIn
from leasing.model import Event, Member, Part, Project, Token, User
from leasing.service import people, tickets
from leasing.states import ProjectRole
from tests.support import gateways
from tests.support.api import Served, served, token
from tests.support.cluster import Cluster
from tests.support.gateways import Gate, opened
from tests.support.stack import until


@dataclass
class Team:
    """An api, and people with a role each in the project of ada's leases."""

    api: Served
    cluster: Cluster

    def member(self, name: str, role: ProjectRole | None) -> str:
        """Their token."""
        secret = self.api.user(name)
        with self.cluster.sessions.begin() as session:
            project_id = session.execute(sa.select(Project.id).where(Project.name == "default")).scalar_one()
            user_id = session.execute(sa.select(User.id).where(User.name == name)).scalar_one()
            if role is not None:
                session.add(Member(project_id=project_id, user_id=user_id, role=role))
        return secret

    @contextmanager
    def client(self, secret: str) -> Iterator[Client]:
        with Client(self.api.url, secret) as client:
            yield client


@pytest.fixture
def team(database_url: str, tmp_path: Path) -> Iterator[Team]:
    with Cluster.opened(database_url) as cluster, served(cluster, tmp_path) as api:
        yield Team(api, cluster)


def test_a_shared_lease_is_everybody_s_of_its_project_as_far_as_their_role_goes(team: Team) -> None:
    roles = {"vic": ProjectRole.VIEWER, "dev": ProjectRole.DEVELOPER, "own": ProjectRole.OWNER, "eve": None}
    secrets = {name: team.member(name, role) for name, role in roles.items()}
    with team.client(token(team.cluster, team.cluster.ada)) as ada:
        lease = ada.up(name="app", port=8000, env={"KEY": "secret"}, image="base")
        assert (lease.facts.shared, len(lease.facts.may)) == (False, 6)

        def seen(name: str) -> str:
            with team.client(secrets[name]) as client:
                listed = [one.name for one in client.leases()]
                try:
                    found = client.lease("app").facts
                except errors.NotAllowed as refused:
                    return f"{listed} {refused}"
                return f"{listed} {' '.join(found.may)} {found.request.env}"

        assert (
            seen("vic")
            == "[] Lease 'app' is not shared with its project. Who asked for it can share it: lease share app"
        )
        assert seen("own") == "[] see {}"
        assert lease.share().shared
        assert seen("vic") == "['app'] see call {}"
        assert seen("dev") == "['app'] see call enter change {'KEY': 'secret'}"
        assert seen("own") == "['app'] see call enter change release share {'KEY': 'secret'}"
        assert seen("eve") == "[] Lease 'app' is somebody else's. lease ls shows yours."
        with team.client(secrets["vic"]) as vic, pytest.raises(errors.NotAllowed, match="takes developer"):
            vic.lease("app").extend("1h")
        with team.client(secrets["dev"]) as dev:
            dev.lease("app").extend("1h")
            with pytest.raises(errors.NotAllowed, match="takes owner"):
                dev.lease("app").release()
        assert not lease.unshare().shared
        assert seen("dev").startswith("[] Lease 'app' is not shared")
        lease.share()
        with team.client(secrets["own"]) as own:
            assert [one.name for one in own.leases(everyone=True)] == ["app"]
            assert own.lease("app").release().state == "ended"
        with pytest.raises(errors.Gone):
            lease.share()


def test_a_stream_ends_for_who_may_see_it_no_longer(team: Team) -> None:
    secret = team.member("vic", ProjectRole.VIEWER)
    with team.client(token(team.cluster, team.cluster.ada)) as ada, team.client(secret) as vic:
        lease = ada.up(name="app", port=8000, share=True, image="base")
        events = vic.lease("app").events(follow=True)
        assert next(events).kind == "lease.queued"
        lease.unshare()
        with pytest.raises(errors.NotAllowed, match="not shared"):
            list(events)  # cut, and refused when it comes back


def test_a_token_for_one_lease_is_handed_out_listed_and_revoked(team: Team) -> None:
    secret = team.member("vic", ProjectRole.VIEWER)
    with team.client(token(team.cluster, team.cluster.ada)) as ada, team.client(secret) as vic:
        lease = ada.up(name="app", port=8000, share=True, image="base")
        plain = ada.up(name="plain", image="base")
        made = vic.lease("app").create_token("billing")
        assert made.kind == "lease"
        assert made.expires_at is not None
        assert round((made.expires_at - made.created_at).total_seconds() / 86400) == 30
        own = lease.create_token("own", ttl="1h")
        assert [one.label for one in lease.tokens()] == ["own", "billing"]  # she may share it
        assert [(one.label, one.secret) for one in vic.lease("app").tokens()] == [("billing", None)]
        with pytest.raises(errors.NotFound):
            vic.lease("app").revoke_token(own.id)
        assert lease.revoke_token(made.id)
        assert lease.revoke_token(made.id)  # idempotent
        assert [one.label for one in lease.tokens()] == ["own"]
        for ttl, port, refused, said in (
            ("366d", lease, errors.Invalid, "365d"),
            (None, plain, errors.Invalid, "--port"),
            ("soon", lease, errors.Invalid, "duration"),
        ):
            with pytest.raises(refused, match=said):
                port.create_token("x", ttl=ttl)
        with pytest.raises(errors.NotFound):
            lease.revoke_token(uuid4())
        assert made.secret is not None
        assert own.secret is not None
    with team.client(own.secret) as caller, pytest.raises(errors.NotAllowed, match="one lease's endpoint"):
        caller.leases().__next__()
    with team.client(made.secret) as caller, pytest.raises(errors.NotSignedIn):
        caller.me()


def test_the_command_line_shares_and_hands_out(
    team: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = token(team.cluster, team.cluster.ada)
    monkeypatch.setenv("LEASING_URL", team.api.url)
    monkeypatch.setenv("LEASING_TOKEN", secret)

    def lease(*arguments: str) -> tuple[int, str]:
        code = execute(arguments)
        return code, capsys.readouterr().out

    assert lease("up", "app", "--image", "base", "--port", "8000", "--share", "--detach")[0] == 0
    assert lease("token") == (0, f"{secret}\n")
    assert lease("unshare", "app")[1].startswith("app is ada's alone")
    assert lease("share", "app")[1].startswith("app is shared with project default")
    code, made = lease("token", "create", "app", "--label", "billing", "--for", "7d")
    assert (code, made[:4]) == (0, "lse_")
    listed = lease("token", "ls", "app")[1]
    assert "billing" in listed
    assert "ada" in listed
    token_id = listed.splitlines()[1].split()[0]
    assert lease("token", "rm", "app", token_id) == (0, "Revoked.\n")
    assert "Make one: lease token create app" in lease("token", "ls", "app")[1]


def test_who_takes_away_is_told_when_a_gateway_does_not_confirm(team: Team) -> None:
    with team.cluster.sessions.begin() as session:
        session.add(Part(role="gateway", host="h", pid=1, grants="1:1:"))
        session.add(Part(role="api", host="h", pid=2))
    with team.client(token(team.cluster, team.cluster.ada)) as ada:
        made = ada.create_token("x")
        began = time.monotonic()
        assert not ada.revoke_token(made.id)
        assert 0.9 < time.monotonic() - began < 5
    with team.cluster.sessions() as session:
        kinds = session.execute(sa.select(Event.kind).where(Event.kind.like("token.%"))).scalars()
        assert list(kinds) == ["token.created", "token.revoked"]


@pytest.fixture
def gate(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Gate, Served]]:
    """Whose api waits for the gateway's word however slow the machine is."""
    monkeypatch.setattr(revoking, "PATIENCE_SECONDS", 30.0)
    (tmp_path / "api").mkdir()
    plane = getattr(request, "param", "builtin")
    with (
        opened(database_url, tmp_path, poll_seconds=30.0, plane=plane) as made,
        served(made.cluster, tmp_path / "api", prepare=web.mount) as api,
    ):
        yield made, api


def test_a_revocation_is_in_force_with_its_answer(gate: tuple[Gate, Served]) -> None:
    """Nobody waits and nobody polls: the first call after the answer is refused, whatever was taken away."""
    gateway, api = gate
    team = Team(api, gateway.cluster)
    admin = team.cluster
    with admin.sessions.begin() as session:
        session.execute(sa.update(User).where(User.name == "ada").values(role="admin"))
    vic = team.member("vic", ProjectRole.VIEWER)
    root = token(gateway.cluster, gateway.cluster.ada)
    with api.client(root) as client:

        def took(method: str, path: str, **body: object) -> httpx.Response:
            answer = client.request(method, path, json=body or None)
            assert answer.is_success, answer.text
            return answer

        def shut(method: str, path: str, status: int, secret: str, **body: object) -> None:
            answer = took(method, path, **body)
            called = gateway.call(token=secret)
            assert (answer.headers[HEADER], called.status_code) == ("yes", status), called.text

        def let_in(secret: str) -> None:
            took(
                "DELETE", f"/tokens/{took('POST', '/tokens', label='x').json()['id']}"
            )  # all before it is in force
            assert gateway.call(token=secret).status_code == 200

        took("POST", "/leases/app/share")
        let_in(vic)
        shut("DELETE", "/leases/app/share", 403, vic)
        took("POST", "/leases/app/share")
        let_in(vic)
        shut("DELETE", "/projects/default/members/vic", 403, vic)
        one = took("POST", "/leases/app/tokens", label="billing").json()
        let_in(one["secret"])
        shut("DELETE", f"/leases/app/tokens/{one['id']}", 401, one["secret"])
        mine = took("POST", "/tokens", label="mine").json()
        let_in(mine["secret"])
        shut("DELETE", f"/tokens/{mine['id']}", 401, mine["secret"])
        took("PUT", "/projects/default/members/vic", role="viewer")
        let_in(vic)
        shut("PATCH", "/users/vic", 401, vic, disabled=True)
        shut("DELETE", "/leases/app", 503, root)


@pytest.mark.parametrize("gate", ["builtin", "haproxy"], indirect=True)
def test_the_pages_shut_out_with_their_answer_as_well(gate: tuple[Gate, Served]) -> None:
    gateway, api = gate
    root = token(gateway.cluster, gateway.cluster.ada)

    class Browser(httpx.Client):
        """Of ada's, with a session and an endpoint of its own."""

        def sign_in(self) -> None:
            link = httpx.URL(client.post("/users/ada/signin-link").json()["url"])
            assert self.post("/signin", data={"secret": link.params["secret"]}).status_code == 303
            assert COOKIE in self.cookies

        def opening(self) -> httpx.URL:
            """Where the pages send a browser to, which here listens elsewhere."""
            sent = httpx.URL(self.get("/open/app").headers["location"])
            return sent.copy_with(port=gateway.settings.gateway_port)

    def called(cookies: httpx.Cookies) -> int:
        return httpx.get(f"{gateway.url}/l/app/", cookies=cookies).status_code

    pages: dict[str, Any] = {"base_url": api.url, "headers": {"Origin": api.url}}
    with api.client(root) as client, Browser(**pages) as browser, Browser(**pages) as other:
        browser.sign_in()
        other.sign_in()
        cookies, others = httpx.get(browser.opening()).cookies, httpx.get(other.opening()).cookies
        unused, others_unused = browser.opening(), other.opening()
        handed_out = client.post("/leases/app/tokens", json={"label": "billing"}).json()["secret"]

        assert called(cookies) == called(others) == 200
        assert browser.post("/signout").status_code == 303
        assert called(cookies) == 401, "what was opened from the pages"
        assert httpx.get(unused).status_code == 401, "and what was about to be"
        assert called(others) == 200, "another browser's goes on"
        assert httpx.get(others_unused).status_code == 303
        assert gateway.call(token=handed_out).status_code == 200, "an application's own, too"
        session = next(one for one in client.get("/tokens").json()["items"] if one["kind"] == "session")
        assert client.delete(f"/tokens/{session['id']}").status_code == 204
        assert called(others) == 401, "from elsewhere as well"
        browser.sign_in()
        assert browser.post("/leases/app/release").status_code == 303
        assert gateway.call(token=handed_out).status_code == 503


def test_who_is_let_in_while_signing_out_is_out_as_well(gate: tuple[Gate, Served]) -> None:
    """Whichever of the two comes first: the ticket is used up before, and its answer is on its way."""
    cluster, lease = gate[0].cluster, gate[0].lease
    ticket = gateways.ticket(cluster, lease)
    with cluster.sessions() as session, ThreadPoolExecutor(1) as elsewhere:
        moment = now(session)
        cookie = tickets.redeem(session, ticket, lease.id, lasts=timedelta(hours=1), now=moment)
        made = session.scalars(sa.select(Token).where(Token.hash == people.hashed(cookie))).one()
        browser, ours = made.opened_by, session.scalars(sa.select(sa.func.pg_backend_pid())).one()
        assert browser is not None

        def sign_out() -> None:
            with cluster.sessions.begin() as other:
                people.revoke_token(other, cluster.ada, browser, now=now(other))

        leaving = elsewhere.submit(sign_out)
        until(lambda: waits_for(cluster, ours), what="the sign-out's waiting")
        session.commit()
        leaving.result(10)
        session.refresh(made)
        assert made.revoked_at is not None
    late = gateways.ticket(cluster, lease)
    with cluster.sessions.begin() as session:
        by = session.scalars(sa.select(Token.opened_by).where(Token.hash == people.hashed(late))).one()
        session.execute(sa.update(Token).where(Token.id == by).values(revoked_at=now(session)))
    with cluster.sessions.begin() as session, pytest.raises(NotSignedIn):
        tickets.redeem(session, late, lease.id, lasts=timedelta(hours=1), now=now(session))


def waits_for(cluster: Cluster, pid: int) -> bool:
    """Whether a statement waits for what that connection holds. Activity is read once a transaction."""
    waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE :pid = ANY(pg_blocking_pids(pid))")
    with cluster.sessions() as session:
        return bool(session.execute(waiting, {"pid": pid}).scalar_one())


def test_a_token_of_one_lease_opens_no_other(gate: tuple[Gate, Served]) -> None:
    gateway, api = gate
    gateway.cluster.run(name="other", port=gateway.application.port)
    with Client(api.url, gateway.token) as ada:
        made = ada.lease("other").create_token("x")
        gone = ada.create_token("y")
        assert ada.revoke_token(gone.id)  # the gateway knows all that was before
    assert made.secret is not None
    answer = gateway.call(token=made.secret)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    assert "another lease" in answer.json()["detail"]
    assert not [one for one in gateway.application.seen if one.startswith(b"POST")]
    with gateway.cluster.sessions() as session:
        assert now(session) < made.expires_at  # type: ignore[operator]  # it always expires
