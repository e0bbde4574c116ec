"""An installation's bad days: two at once, a lost token, a backup taken back, an upgrade, and its end."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from alembic import command
from alembic.config import Config

from leasing.cli import host
from leasing.cli import serve as platform
from leasing.database import create_engine, driver_url, sessions
from leasing.errors import HostError
from leasing.host import firewall_use, listening
from leasing.host.postgres import Postgres, running_url
from leasing.migrating import ROOT
from leasing.secrets import key
from leasing.service import registries
from leasing.settings.core import CoreSettings
from tests.support.images import BUSYBOX, ensure_busybox
from tests.support.stack import LEASE, Stack, free_port, running, until
from tests.support.unprivileged import as_nobody

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]
SMALL = ("--cpus", "0.1", "--memory", "64M", "--image", BUSYBOX)
SLEEP = ("--", "sleep", "600")
PAGE = (
    "--",
    "sh",
    "-c",
    "mkdir /tmp/www; echo hello > /tmp/www/index.html; exec httpd -f -p 8000 -h /tmp/www",
)
PREVIOUS = "runs_and_records"
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user, or set the firewall")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    ensure_busybox()
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def old(state_root: Path) -> Path:
    """A state folder as an older version left it."""
    folder = state_root / "old"
    with Postgres.open(folder) as database:
        config = Config(str(ROOT / "alembic.ini"))
        config.set_main_option("script_location", str(ROOT / "migrations"))
        config.attributes["url"] = driver_url(database.url)
        command.upgrade(config, PREVIOUS)
    return folder


@pytest.fixture(scope="module")
def neighbour(old: Path) -> Iterator[Stack]:
    """Another installation on the same engine, on that folder."""
    with running({"LEASING_STATE_DIR": str(old)}) as made:
        yield made


def state(stack: Stack) -> Path:
    return Path(stack.environment["LEASING_STATE_DIR"])


def refused(stack: Stack, *words: str, **settings: str) -> str:
    """What a command says that is refused in a sentence."""
    done = subprocess.run(
        [LEASE, *words], env=stack.environment | settings, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def owner(stack: Stack) -> dict[str, str]:
    kept = json.loads((Path(stack.environment["LEASING_CONFIG_DIR"]) / "credentials.json").read_text())
    return {"Authorization": f"Bearer {kept['token']}"}


def call(stack: Stack, path: str, **body: str) -> dict[str, Any]:
    """The api's own word, without the second that a command line takes."""
    method = "POST" if body or path.endswith("link") else "GET"
    got = httpx.request(method, f"{stack.url}/api/v1{path}", json=body or None, headers=owner(stack))
    found: dict[str, Any] = got.json()
    return found


def answer(stack: Stack, name: str) -> str | None:
    """What an endpoint answers to its owner, once it does."""
    got = httpx.get(f"{stack.gateway}/l/{name}/", headers=owner(stack))
    return got.text if got.status_code == 200 else None


def on_the_engine(stack: Stack, what: str) -> list[str]:
    listed = subprocess.run(
        ["docker", what, "ls", "-q", "--filter", f"label=leasing.installation={stack.installation()}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return listed.stdout.split()


# -- starting ----------------------------------------------------------------------------------------------------------


def test_a_second_server_of_the_same_folder_is_refused(stack: Stack) -> None:
    said = refused(stack, "serve")
    assert "Another server of this installation is running" in said
    assert "LEASING_STATE_DIR" in said
    assert stack.lease("ls").returncode == 0


def test_a_port_that_is_taken_is_named_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        environment = {"LEASING_STATE_DIR": str(tmp_path / "state"), "LEASING_PORT": str(port)}
        done = subprocess.run(
            [LEASE, "serve"], env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken" in done.stderr
    assert f"LEASING_PORT={port + 10}" in done.stderr
    assert not (tmp_path / "state" / "pg").exists()


@pytest.mark.parametrize("taken", ["LEASING_PORT", "LEASING_GATEWAY_PORT", "LEASING_NODE_PORT"])
def test_each_port_is_looked_at(taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEASING_PORT", "LEASING_GATEWAY_PORT", "LEASING_NODE_PORT"):
        monkeypatch.setenv(name, str(free_port()))
    platform._check_ports(CoreSettings())
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(taken, str(server.getsockname()[1]))
        with pytest.raises(HostError, match=taken):
            platform._check_ports(CoreSettings())


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(HostError, match="is no IPv4 address of this machine"):
        listening.check("192.0.2.1", 0, variable="LEASING_PORT")


@root
def test_a_user_without_rights_is_told_which(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The state folder of another user's, its tokens and its database, and the engine."""
    monkeypatch.setenv("LEASING_STATE_DIR", str(state(stack)))
    assert "belongs to the user who runs the platform" in as_nobody(lambda: host.backup("/tmp/mine"))
    assert "belongs to the user who runs the platform" in as_nobody(lambda: host.signin_link(None))
    settings = CoreSettings()
    assert "cannot be written by this user" in as_nobody(lambda: platform._make_room(settings))

    def engine() -> str:
        platform._look_for_engine()
        return caplog.text

    assert "may not use the Docker Engine" in as_nobody(engine)


# -- signing in --------------------------------------------------------------------------------------------------------


def test_who_lost_every_token_makes_a_link_on_the_server(stack: Stack, tmp_path: Path) -> None:
    nothing = stack.environment | {"LEASING_CONFIG_DIR": str(tmp_path)}
    made = subprocess.run(
        [LEASE, "admin", "signin-link"], env=nothing, capture_output=True, text=True, check=True
    )
    link = made.stdout.strip()
    first = subprocess.run([LEASE, "login", link], env=nothing, capture_output=True, text=True, check=False)
    assert "signed in" in first.stdout, first.stderr
    again = subprocess.run([LEASE, "login", link], env=nothing, capture_output=True, text=True, check=False)
    assert again.returncode == 6
    assert "used already" in again.stderr
    assert "no user" in stack.lease("admin", "signin-link", "nobody", check=False).stderr


def test_a_start_keeps_the_token_that_this_machine_has(stack: Stack) -> None:
    """Else every start would add one."""
    before = stack.lease("token").stdout
    labels = [one["label"] for one in stack.json("tokens", "ls")["items"]]
    assert "this machine" in stack.lease("tokens", "ls").stdout
    assert labels.count("this machine") == 1
    url = running_url(state(stack))
    assert url is not None
    platform._prepare(_settings(stack), url)
    assert stack.lease("token").stdout == before


# -- backup and restore ------------------------------------------------------------------------------------------------


def test_a_restore_brings_back_what_was_and_the_engine_follows(stack: Stack, tmp_path: Path) -> None:
    stack.lease("up", "stays", *SMALL, "--port", "8000", *PAGE)
    stack.lease("up", "goes", *SMALL, *SLEEP)
    stack.lease("admin", "registries", "add", "registry.example", "ada", text="sealed words")
    call(stack, "/users", name="ada")
    link = call(stack, "/users/ada/signin-link")["url"]
    ada = httpx.post(f"{stack.url}/api/v1/signin", json={"secret": link.partition("secret=")[2]}).json()
    stays, gone = (_container(stack, lease) for lease in ("stays", "goes"))
    told = call(stack, "/leases/stays/events")

    stack.lease("admin", "backup", str(tmp_path / "backup"))

    stack.lease("release", "goes")
    stack.lease("up", "later", *SMALL, "--workspace", "papers", *SLEEP)
    call(stack, "/users", name="eve")
    httpx.delete(f"{stack.url}/api/v1/registries/registry.example", headers=owner(stack))
    until(lambda: call(stack, "/leases/goes")["state"] == "ended", what="the release")
    (later,) = set(stack.containers()) - {stays}
    assert gone not in stack.containers()

    stack.stop()
    (tmp_path / "short").write_bytes((tmp_path / "backup").read_bytes()[:-2000])
    assert "pg_restore failed" in refused(stack, "admin", "restore", str(tmp_path / "short"))
    with Postgres.open(state(stack)) as database, psycopg.connect(database.url) as connection:
        kept = connection.execute("SELECT name FROM users ORDER BY name").fetchall()
        assert kept == [("ada",), ("admin",), ("eve",)], "a refused restore changes nothing"

    assert "Restored" in stack.lease("admin", "restore", str(tmp_path / "backup")).stdout
    stack.start()
    assert [one["name"] for one in call(stack, "/users")["items"]] == ["ada", "admin"]
    headers = {"Authorization": f"Bearer {ada['secret']}"}
    assert httpx.get(f"{stack.url}/api/v1/me", headers=headers).json()["name"] == "ada"
    assert _login(stack) == "sealed words"
    assert call(stack, "/leases/stays")["state"] == "running"
    assert call(stack, "/leases/stays/events") == told
    until(lambda: answer(stack, "stays") == "hello\n", what="the endpoint's answer")
    until(lambda: call(stack, "/leases/goes")["state"] == "ended", what="the end of what has no container")
    lost = call(stack, "/leases/goes")
    assert (lost["reason"], lost["message"]) == (
        "lost",
        "its container is gone, and the platform did not remove it",
    )
    until(lambda: stack.containers() == [stays], what="the end of the orphan")
    assert later not in stack.containers()
    assert call(stack, "/leases/later")["code"] == "not_found"
    assert len(on_the_engine(stack, "volume")) == 1, "a workspace outlives even that"
    # the lease's, and one that waits for the next; what waited before is of no row any more, and goes
    until(lambda: len(on_the_engine(stack, "network")) <= 2, what="the end of networks that nobody knows")


# -- upgrade -----------------------------------------------------------------------------------------------------------


def test_a_newer_database_is_refused(old: Path) -> None:
    _at_revision(old, "from_the_future")
    ports = {f"LEASING_{one}PORT": str(free_port()) for one in ("", "GATEWAY_", "NODE_")}
    done = subprocess.run(
        [LEASE, "serve"], env=os.environ | ports | {"LEASING_STATE_DIR": str(old)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "made by a newer version (its schema is from_the_future)" in done.stderr
    assert "admin restore" in done.stderr
    assert "Traceback" not in done.stderr
    _at_revision(old, PREVIOUS)


def test_an_older_database_is_migrated_before_a_part_starts(neighbour: Stack) -> None:
    assert httpx.get(f"{neighbour.url}/readyz").json() == {"status": "ready"}
    url = running_url(state(neighbour))
    assert url is not None
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() != (PREVIOUS,)
        found = connection.execute("SELECT 1 FROM pg_proc WHERE proname = 'node_usage_apply'").fetchone()
    assert found is not None, "the newest migration has run"


# -- its end -----------------------------------------------------------------------------------------------------------


@root
def test_the_end_of_one_installation_leaves_the_other_alone(stack: Stack, neighbour: Stack) -> None:
    neighbour.lease("up", "theirs", *SMALL, "--port", "8000", "--workspace", "novel", *PAGE)
    (container,) = stack.containers()  # stays, of the test of restoring
    assert len(neighbour.containers()) == 1
    assert "running" in refused(neighbour, "admin", "uninstall", "--yes")
    (state(neighbour) / "notes.txt").write_text("somebody else's")

    neighbour.stop()
    asked = neighbour.lease("admin", "uninstall", check=False, text="n\n")
    assert (asked.returncode, len(neighbour.containers())) == (1, 1)
    nowhere = "unix:///nonexistent/docker.sock"
    assert "The data stays" in refused(
        neighbour, "admin", "uninstall", "--yes", LEASING_DOCKER_ADDRESS=nowhere
    )
    assert (state(neighbour) / "pg").exists()

    said = neighbour.lease("admin", "uninstall", "--yes").stdout
    assert re.search(r"[1-3] containers?, [12] networks?", said), "its lease's, and what waited for the next"
    assert "Kept people's workspaces: " in said
    assert "Kept the firewall rules: another installation uses them" in said
    assert "notes.txt" in said
    assert [path.name for path in state(neighbour).iterdir()] == ["notes.txt"]
    assert list(Path(neighbour.environment["LEASING_CONFIG_DIR"]).glob("*")) == []
    assert (neighbour.containers(), on_the_engine(neighbour, "network")) == ([], [])
    (volume,) = on_the_engine(neighbour, "volume")
    assert volume in said
    subprocess.run(["docker", "volume", "rm", volume], check=True, capture_output=True)

    assert (stack.state("stays"), stack.containers()) == ("running", [container])
    assert answer(stack, "stays") == "hello\n"
    assert _reaches_this_machine(stack, "stays") is False


def test_rules_that_somebody_relies_on_are_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also of an installation that has no lease at the moment, and so no network."""
    monkeypatch.setattr(firewall_use, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with firewall_use.relying(), firewall_use.relying(), firewall_use.nobody_relies() as nobody:
        assert nobody is False
    with firewall_use.nobody_relies() as nobody:
        assert nobody is True


def _container(stack: Stack, lease: str) -> str:
    number = call(stack, f"/leases/{lease}")["id"].replace("-", "")[:12]
    return next(name for name in stack.containers() if number in name)


def _settings(stack: Stack) -> CoreSettings:
    return CoreSettings(
        state_dir=state(stack),
        port=int(stack.environment["LEASING_PORT"]),
        gateway_port=int(stack.environment["LEASING_GATEWAY_PORT"]),
    )


def _at_revision(folder: Path, revision: str) -> None:
    with Postgres.open(folder) as database, psycopg.connect(database.url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", (revision,))


def _login(stack: Stack) -> str | None:
    """A registry's secret, read as the scheduler does."""
    url = running_url(state(stack))
    assert url is not None
    engine = create_engine(url, "test")
    try:
        with sessions(engine)() as session:
            found = registries.login_for(
                session, "registry.example/x:1", key(_settings(stack).secret_key_file())
            )
            return found.secret if found else None
    finally:
        engine.dispose()


def _reaches_this_machine(stack: Stack, name: str) -> bool:
    """Whether a connection from inside a lease arrives at a port that is open on every address of this machine."""
    inside = stack.lease("exec", name, "--", "ip", "route").stdout
    gateway = re.search(r"default via (\S+)", inside)
    assert gateway is not None, inside
    with socket.create_server(("0.0.0.0", 0)) as server:
        server.settimeout(0.5)
        port = server.getsockname()[1]
        stack.lease("exec", name, "--", "nc", "-w", "2", gateway[1], str(port), check=False)
        try:
            server.accept()
        except TimeoutError:
            return False
        return True
