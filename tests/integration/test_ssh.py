"""SSH with OpenSSH's own client: through the command line, the api and a real engine, into containers whose image has
no SSH server, no account for the user, and for some no network."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from api.streams import access
from images import tools
from images.catalogue import load
from leasing.drivers.docker import DockerDriver
from leasing.model import Lease, Signal
from leasing.service import host_keys
from leasing.settings.docker import DockerSettings
from tests.support.api import Served, served, token
from tests.support.bench import docker
from tests.support.cluster import Cluster, on_docker
from tests.support.images import BUSYBOX
from tests.support.postgres import TestDatabases
from tests.support.remote import Machine, listens, through_socks
from tests.support.stack import LEASE, free_port, until

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]

VSCODE = """
echo "a1b2: running"
DIR=$HOME/.vscode-server/bin/0123abc
mkdir -p "$DIR" && cd "$DIR" || exit 31
echo "kernel=$(uname -s) arch=$(uname -m) shell=$SHELL term=$TERM_PROGRAM"
cat > server.py <<'PY'
import http.server, os
made = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
open("log", "w").write(f"Extension host agent listening on {made.server_port}")
made.serve_forever()
PY
echo hello > hello
nohup python3 server.py >/dev/null 2>&1 </dev/null &
while ! [ -s log ]; do sleep 0.05; done
echo "listeningOn==$(sed 's/.* //' log)=="
echo "a1b2##end##"
"""
"""What an editor's connection script does, shortened: it finds out where it is, unpacks its server, starts that beyond
its own end on a port of the loopback, and prints which."""


@dataclass(frozen=True)
class Setting:
    """A platform with a real engine, and ada's own machine."""

    api: Served
    cluster: Cluster
    machine: Machine

    def leased(self, name: str, image: str = BUSYBOX) -> Lease:
        return self.cluster.run(
            name=name, image=image, command=["sleep", "600"], env={"FOO": "it's 'b' $x\n\"z\""}
        )

    def known(self, host: str) -> str:
        """The key that ssh has of a host."""
        lines = (
            Path(self.machine.environment["LEASING_CONFIG_DIR"], "ssh/known_hosts").read_text().splitlines()
        )
        (found,) = [line for line in lines if line.startswith(f"{host} ")]
        return found

    def release(self, lease: Lease) -> None:
        self.cluster.release(lease.id)
        self.cluster.work()

    def last_done(self, lease: Lease) -> datetime | None:
        """When somebody last did something in it, as far as it is known now."""
        self.api.app.state.typed.flush()
        with self.cluster.sessions() as session:
            return session.get_one(Signal, (lease.id, "terminal")).active_at

    @contextmanager
    def activity(self, lease: Lease) -> Iterator[None]:
        """What happens in the block is."""
        before = self.last_done(lease)
        yield
        until(lambda: self.last_done(lease) != before, what="activity", every=0.2, seconds=60)

    def is_quiet(self, lease: Lease, seconds: float) -> bool:
        before = self.last_done(lease)
        time.sleep(seconds)
        return self.last_done(lease) == before


@pytest.fixture(scope="module")
def setting(databases: TestDatabases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    driver = DockerDriver("", DockerSettings())
    tools.ensure(driver, lambda _: None)
    with (
        databases.migrated() as url,
        on_docker(url) as cluster,
        served(cluster, tmp_path_factory.mktemp("state"), prepare=streaming_from(driver)) as api,
    ):
        home = tmp_path_factory.mktemp("home")
        yield Setting(api, cluster, Machine.at(home, api.url, token(cluster, cluster.ada)))
    driver.close()


def streaming_from(driver: DockerDriver) -> Callable[..., None]:
    def prepare(app: object) -> None:
        app.state.connect = lambda *_: driver  # type: ignore[attr-defined]  # FastAPI keeps what it is told

    return prepare


@pytest.fixture(scope="module")
def train(setting: Setting) -> Lease:
    return setting.leased("train")


@pytest.fixture(scope="module")
def plain(setting: Setting, train: Lease) -> list[str]:
    """ssh and its options, as it is after `lease config-ssh`."""
    setting.machine.run(LEASE, "config-ssh")
    return ["-F", setting.machine.config]


def test_a_command_has_its_code_its_input_and_the_container_s_environment(
    setting: Setting, train: Lease
) -> None:
    script = 'echo "$FOO|$LEASE_NAME|$HOME|$PWD|$SHELL"; id -u; grep CapEff /proc/self/status; exit 7'
    before = setting.last_done(train)
    said = setting.machine.run(LEASE, "ssh", "train", "--", script, code=7).splitlines()
    assert said[:2] == ["it's 'b' $x", '"z"|train|/home/lease|/home/lease|/bin/sh']
    assert said[2:4] == ["1000", "CapEff:\t0000000000000000"]
    binary = bytes(range(256)) * 400
    assert setting.machine.run(LEASE, "ssh", "train", "md5sum", given=binary).split()[0] == _md5(binary)
    # That a session began is told beside it: of one that is over at once, a busy machine may not hear.
    with setting.machine.terminal(LEASE, "ssh", "train", "--", "cat"):
        until(lambda: setting.last_done(train) != before, what="activity", seconds=60)
    container = setting.cluster.container(train.id)
    until(
        lambda: not docker("exec", container, "ls", "-A", "/dev/shm"), what="the connection's own files gone"
    )


def test_a_terminal_is_one_and_only_typing_in_it_is_activity(setting: Setting, train: Lease) -> None:
    with setting.machine.terminal(LEASE, "ssh", "train") as shell:
        shell.shows(b"$ ")
        shell.type(b"stty size; test -t 0 && echo $((40 + 2))\r")
        shell.shows(b"30 100")
        shell.shows(b"42")
        shell.type(b"while ! read -t 1 x; do seq 200; done; echo got $x\r")
        # Then there is only printing. The kernel notes keys in steps of 8 s, so the next one is seen in another step.
        until(lambda: setting.is_quiet(train, 8.5), what="quiet", seconds=45)
        with setting.activity(train):
            shell.type(b"me\r")
            shell.shows(b"got me")


def test_plain_ssh_scp_and_sftp_work_once_it_is_configured(
    setting: Setting, train: Lease, plain: list[str], tmp_path: Path
) -> None:
    run = setting.machine.run
    assert run("ssh", *plain, "train.lease", "hostname").strip() == "train"
    content = os.urandom(3_000_000)
    (tmp_path / "up").write_bytes(content)
    with setting.activity(train):
        run("scp", *plain, str(tmp_path / "up"), "train.lease:up")
    run("scp", *plain, "train.lease:up", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == content
    (tmp_path / "batch").write_text(f"mkdir sub\nput {tmp_path / 'up'} sub/up\nls -l sub\n")
    assert "3000000" in run("sftp", *plain, "-b", str(tmp_path / "batch"), "train.lease")


def test_a_port_inside_is_reached_on_a_lease_without_a_network(setting: Setting, plain: list[str]) -> None:
    lease = setting.leased("island")
    container = setting.cluster.container(lease.id)
    serve = "mkdir -p ~/www; echo inside > ~/www/a; exec busybox httpd -f -p 127.0.0.1:8000 -h ~/www"
    docker("exec", "-d", container, "sh", "-c", serve)
    (network,) = docker(
        "inspect", "-f", "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}", container
    ).split()
    docker("network", "disconnect", network, container)
    local = free_port()
    with setting.machine.running(LEASE, "ssh", "island", "-N", "-L", f"{local}:localhost:8000"):
        listens(local)
        assert httpx.get(f"http://127.0.0.1:{local}/a").text == "inside\n"
    setting.release(lease)


def test_the_way_an_editor_connects(setting: Setting, plain: list[str], tmp_path: Path) -> None:
    """VS Code: a script through one connection, and through that many connections to the server it started. JetBrains:
    files by sftp, then commands. Both into an image without an SSH server."""
    base = load()["base"].reference
    lease = setting.leased("desk", base)
    proxy = free_port()
    with setting.machine.running(
        "ssh", "-v", *plain, "-T", "-D", str(proxy), "-o", "ConnectTimeout=15", "desk.lease", "sh"
    ) as editor:
        assert editor.stdin is not None
        assert editor.stdout is not None
        editor.stdin.write(VSCODE.encode())
        editor.stdin.flush()
        said = b""
        while b"##end##" not in said:
            line = editor.stdout.readline()
            assert line, said
            said += line
        assert b"kernel=Linux" in said
        assert b"shell=/bin/bash" in said
        found = re.search(rb"listeningOn==(\d+)==", said)
        assert found is not None

        def page(_: int) -> bytes:
            with through_socks(proxy, "localhost", int(found[1])) as connection:
                connection.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
                return b"".join(iter(lambda: connection.recv(65536), b""))

        with ThreadPoolExecutor(4) as pool:
            assert all(answer.endswith(b"hello\n") for answer in pool.map(page, range(12)))
    backend = tmp_path / "backend.sh"
    backend.write_text("#!/bin/bash\necho backend of $(id -u) in $PWD\n")
    (tmp_path / "batch").write_text(
        f"-mkdir .cache\nput {backend} .cache/backend.sh\nchmod 755 .cache/backend.sh\n"
    )
    setting.machine.run("sftp", *plain, "-b", str(tmp_path / "batch"), "desk.lease")
    said_then = setting.machine.run("ssh", *plain, "desk.lease", "cd .cache && ./backend.sh")
    assert said_then == "backend of 1000 in /home/lease/.cache\n"
    setting.release(lease)


def test_an_image_of_one_file_is_entered_and_the_same_host_after_a_rest(
    setting: Setting, plain: list[str], tmp_path: Path
) -> None:
    """It has no shell, no users, no /tmp; and what was written there goes on with it."""
    image = "leasing-test/onefile:1"
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(shutil.which("busybox") or "", "busybox")
    docker("import", "--change", 'CMD ["/busybox", "sleep", "600"]', str(tmp_path / "root.tar"), image)
    lease = setting.cluster.run(name="bottle", image=image)
    said = setting.machine.run(
        "ssh", *plain, "bottle.lease", 'echo "$0 $LEASE_NAME" | tee note; ls -d /bin', code=1
    )
    assert "bottle" in said
    known = setting.known("bottle.lease")
    setting.cluster.suspend(lease.id)
    setting.cluster.work()
    assert "Lease 'bottle' is suspended" in setting.machine.run(LEASE, "ssh", "bottle", "--", "true", code=1)
    setting.cluster.resume(lease.id)
    setting.cluster.plan()
    setting.cluster.work()
    assert "bottle" in setting.machine.run("ssh", *plain, "bottle.lease", "cat note")
    assert setting.known("bottle.lease") == known
    setting.release(lease)


def test_many_at_once_each_have_their_own(setting: Setting, train: Lease, plain: list[str]) -> None:
    def asked(number: int) -> str:
        return setting.machine.run("ssh", *plain, "train.lease", f"sleep 0.2; echo {number}")

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(asked, range(6))) == [f"{number}\n" for number in range(6)]


def test_only_the_key_that_came_with_the_call_is_let_in(
    setting: Setting, train: Lease, plain: list[str], tmp_path: Path
) -> None:
    other = str(tmp_path / "other")
    setting.machine.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other)
    options = (tmp_path / "config").write_text(
        re.sub(
            r"IdentityFile .*",
            f"IdentityFile {other}",
            Path(setting.machine.config).with_name("leasing.conf").read_text(),
        )
    )
    assert options
    said = setting.machine.run("ssh", "-F", str(tmp_path / "config"), "train.lease", "true", code=255)
    assert "Permission denied (publickey)" in said
    said = setting.machine.run("ssh", *plain, "-l", "root", "train.lease", "true", code=255)
    assert "Permission denied (publickey)" in said


def test_a_host_that_cannot_prove_its_key_is_not_believed(
    setting: Setting, train: Lease, plain: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = host_keys.of

    def told(key: bytes, lease_id: object) -> host_keys.HostKey:
        return host_keys.HostKey(true(b"another", train.id).public, true(key, train.id).private)

    monkeypatch.setattr(host_keys, "of", told)
    said = setting.machine.run("ssh", *plain, "train.lease", "true", code=255)
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in said
    monkeypatch.undo()
    assert setting.machine.run("ssh", *plain, "train.lease", "echo again") == "again\n"


def test_a_refusal_says_why_and_has_its_exit_code(
    setting: Setting, train: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = setting.machine.run
    assert "no lease" in run(LEASE, "ssh", "nosuch", "--", "true", code=5)
    eve = Machine(dict(setting.machine.environment) | {"LEASING_TOKEN": setting.api.user("eve")})
    assert "train" in eve.run(LEASE, "ssh", "train", "--", "true", code=1)
    nobody = Machine(dict(setting.machine.environment) | {"LEASING_TOKEN": "lse_wrong"})
    assert "Sign in" in nobody.run(LEASE, "ssh", "train", "--", "true", code=6)
    waiting = setting.cluster.ask()
    assert "has no container now" in run(LEASE, "ssh", waiting.name, "--", "true", code=1)
    setting.release(waiting)
    monkeypatch.setattr(tools, "reference", lambda: "leasing/nosuch:1")
    bare = setting.leased("bare")
    said = run(LEASE, "ssh", "bare", "--", "true", code=255)
    assert "Suspend and resume it" in said
    setting.release(bare)


def test_whoever_may_enter_no_longer_is_cut_off(
    setting: Setting, train: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "RECHECK_SECONDS", 0.2)
    with setting.api.client(setting.machine.environment["LEASING_TOKEN"]) as ada:
        made = ada.post("/tokens", json={"label": "laptop"}).json()
        laptop = Machine(dict(setting.machine.environment) | {"LEASING_TOKEN": made["secret"]})
        with laptop.running(LEASE, "ssh", "train", "--", "echo up; sleep 300") as session:
            assert session.stdout is not None
            assert session.stdout.readline() == b"up\n"
            assert ada.delete(f"/tokens/{made['id']}").status_code == 204
            assert session.wait(20) == 6
    container = setting.cluster.container(train.id)
    until(lambda: "sshd" not in docker("top", container), what="the end of the server inside")
    lease = setting.leased("short")
    with setting.machine.running(LEASE, "ssh", "short", "--", "echo up; sleep 300") as session:
        assert session.stdout is not None
        assert session.stdout.readline() == b"up\n"
        setting.release(lease)
        said = session.stdout.read()
        assert session.wait(20) == 1
    assert b"short" in said, said


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
