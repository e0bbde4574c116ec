"""Finding, starting and refusing an engine, each with a real one or with none."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from leasing.errors import HostError
from leasing.host import engine, packages
from leasing.host.engine import SOCKET
from tests.support.unprivileged import as_nobody

root_only = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may become somebody else, or start an engine"
)


def quiet(_: str) -> None:
    pass


@pytest.fixture(autouse=True)
def no_docker_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)


@pytest.mark.docker
def test_an_engine_that_runs_is_found_with_its_version() -> None:
    version = subprocess.check_output(["docker", "version", "-f", "{{.Server.Version}}"], text=True).strip()
    assert engine.ensure("", quiet) == f"found {version}"
    assert engine.ensure(f"unix://{SOCKET}", quiet) == f"found {version}"


def test_an_engine_elsewhere_is_not_ours_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine.ensure("tcp://10.0.0.9:2376", quiet) == "taken at tcp://10.0.0.9:2376"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    with pytest.raises(HostError, match=r"absent\.sock.*unset that variable"):
        engine.ensure("", quiet)


def test_a_socket_on_which_something_else_answers_is_no_engine(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(10)
        ours = socket.socket(socket.AF_UNIX)
        with ours:
            ours.connect(str(path))
        server.accept()[0].close()
    assert engine.answers(path) is None
    assert engine.answers(tmp_path / "absent.sock") is None


@root_only
@pytest.mark.docker
def test_a_user_outside_the_group_is_told_which() -> None:
    said = as_nobody(lambda: engine.ensure("", quiet))
    assert said.startswith("HostError: This user may not use the Docker Engine")
    assert "sudo usermod -aG docker" in said


@root_only
def test_without_root_a_stopped_or_absent_engine_is_told_apart(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SOCKET", state_dir / "absent.sock")
    stopped = as_nobody(lambda: engine.ensure("", quiet))
    assert "installed, but it is not running" in stopped
    assert "Run: sudo " in stopped

    monkeypatch.setattr(packages, "PATH", str(state_dir))
    absent = as_nobody(lambda: engine.ensure("", quiet))
    assert "no Docker Engine on this machine" in absent
    assert "sudo apt-get install docker.io" in absent


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine whose engine does not run: its socket, log and lock are in a folder of this test's.

    A short one: containerd's sockets lie below it, and a socket's path has 107 characters at most.
    """
    folder = Path(tempfile.mkdtemp(prefix="leasing-"))
    for name in ("SOCKET", "LOG", "LOCK", "CONFIGURATION"):
        monkeypatch.setattr(engine, name, folder / name.lower())
    monkeypatch.setattr(packages, "systemd", lambda: False)
    yield folder
    subprocess.run(
        ["umount", folder / "data"], check=False, capture_output=True
    )  # dockerd's own, of its data
    shutil.rmtree(folder)


def put_dockerd(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    programs = folder / "programs"
    programs.mkdir()
    (programs / "dockerd").write_text(f"#!/bin/sh\n{script}\n")
    (programs / "dockerd").chmod(0o755)
    monkeypatch.setattr(packages, "PATH", f"{programs}:{packages.PATH}")


@pytest.fixture
def own_engine(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a real engine of this test's own will listen once started: own network, own folders."""
    put_dockerd(
        nowhere,
        monkeypatch,
        f"exec unshare --net /usr/sbin/dockerd -H unix://{nowhere}/socket --data-root {nowhere}/data"
        f' --exec-root {nowhere}/exec --pidfile {nowhere}/pid --bridge none "$@"',
    )
    yield nowhere / "socket"
    if (nowhere / "pid").exists():
        pid = int((nowhere / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 15
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline, "the engine did not end"
            time.sleep(0.05)


@root_only
@pytest.mark.docker
def test_a_stopped_engine_is_started_once_and_outlives_whoever_started_it(own_engine: Path) -> None:
    # in a process of its own, which ends: the engine must not end with it
    steps: list[str] = []
    child = os.fork()
    if child == 0:
        said = ""
        try:
            said = engine.ensure("", steps.append)
        except HostError as error:
            said = f"{error} {error.hint}"
        finally:
            (own_engine.parent / "said").write_text(said)
            os._exit(0)  # also when it raised: a second pytest must not go on in here
    os.waitpid(child, 0)
    said = (own_engine.parent / "said").read_text()
    assert said.startswith("started "), said
    assert engine.answers(own_engine) is not None
    assert engine.ensure("", quiet).startswith("found ")
    assert (
        "default-address-pool" in Path(f"/proc/{(own_engine.parent / 'pid').read_text()}/cmdline").read_text()
    )


@root_only
def test_an_engine_that_does_not_start_shows_why_at_once(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_dockerd(nowhere, monkeypatch, "echo 'failed to load listeners: no such host' >&2; exit 1")
    began = time.monotonic()
    with pytest.raises(HostError, match="failed to load listeners: no such host"):
        engine.ensure("", quiet)
    assert time.monotonic() - began < engine.START_SECONDS / 2


@root_only
def test_control_groups_are_mounted_only_where_there_are_none(tmp_path: Path) -> None:
    assert not engine.mount_cgroups(), "the engine of this machine has them"
    assert engine.mount_cgroups(tmp_path)
    try:
        assert (tmp_path / "cgroup.procs").exists()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_gpus_need_nvidia_s_hook_or_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PATH", str(tmp_path))
    assert not engine.hands_out_gpus(runtime=False)
    assert engine.hands_out_gpus(runtime=True)
    (tmp_path / engine.GPU_HOOK).touch(mode=0o755)
    assert engine.hands_out_gpus(runtime=False)
