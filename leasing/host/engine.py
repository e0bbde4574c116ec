"""A Docker Engine on this machine: found, or installed and started."""

from __future__ import annotations

import fcntl
import http.client
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from leasing.errors import HostError
from leasing.host import packages
from leasing.host.packages import Say

SOCKET = Path("/var/run/docker.sock")
LOG = Path("/var/log/leasing-dockerd.log")
LOCK = Path("/run/leasing-engine.lock")
CONFIGURATION = Path("/etc/docker/daemon.json")
CGROUPS = Path("/sys/fs/cgroup")
START_SECONDS = 60.0
ADDRESS_POOL = "base=10.212.0.0/16,size=26"
"""For networks that are not ours: the engine's own default runs out at thirty."""
GPU_HOOK = "nvidia-container-runtime-hook"


def ensure(address: str, say: Say) -> str:
    """What engine answers at that address (empty: DOCKER_HOST, or this machine's socket), in words for people.

    This machine's own is installed and started if need be. Raises `HostError` saying what to do.
    """
    address = address or os.environ.get("DOCKER_HOST", "")
    if address not in ("", f"unix://{SOCKET}", "unix:///run/docker.sock"):
        return _elsewhere(address)
    if (version := answers(SOCKET)) is not None:
        return f"found {version}"
    _must_be_allowed(SOCKET)
    if os.geteuid() != 0:
        raise _as_user()
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two checkouts may be set up at once
        if (version := answers(SOCKET)) is not None:
            return f"found {version}"
        lacking = packages.missing(packages.ENGINE)
        packages.install(lacking, say)
        say("starting")
        version = _start()
    return f"{'installed and started' if lacking else 'started'} {version}"


def answers(path: Path) -> str | None:
    """The version of the engine behind that socket; None if nothing answers, or may not be asked."""
    connection = http.client.HTTPConnection("localhost", timeout=5)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        connection.sock.connect(str(path))
        connection.request("GET", "/_ping")
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    version = (answer.getheader("Server") or "").partition("Docker/")[2].split(" ")[0]
    return version or "of unknown version"


def hands_out_gpus(runtime: bool) -> bool:
    """Whether containers can be given this machine's NVIDIA devices. `runtime`: the engine names NVIDIA's; the hook
    alone will do too, for the engine calls it where it lies on its PATH."""
    return runtime or packages.program(GPU_HOOK) is not None


def _elsewhere(address: str) -> str:
    """An engine that is not this machine's to start."""
    if not address.startswith("unix://"):
        return f"taken at {address}"
    path = Path(address.removeprefix("unix://"))
    if (version := answers(path)) is not None:
        return f"found {version} at {path}"
    _must_be_allowed(path)
    raise HostError(
        f"No Docker Engine answers at {path}, which DOCKER_HOST or LEASING_DOCKER_ADDRESS names.",
        hint="Start it, or unset that variable to use this machine's own.",
    )


def _must_be_allowed(path: Path) -> None:
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise HostError(
            f"This user may not use the Docker Engine: {path} belongs to root and the group docker.",
            hint=f"Run: sudo usermod -aG docker {os.environ.get('USER', '$USER')}, then sign out and in again.",
        )


def _as_user() -> HostError:
    """What somebody without root has to ask for."""
    join = f"sudo usermod -aG docker {os.environ.get('USER', '$USER')}, then sign out and in again"
    if packages.program("dockerd") is None:
        return HostError(
            "There is no Docker Engine on this machine, and only root can install one.",
            hint=f"Run: sudo apt-get install docker.io; {join}. Or run this as root, which does it all.",
        )
    start = (
        "sudo systemctl start docker"
        if packages.systemd()
        else f"sudo {shlex.quote(sys.executable)} -m leasing.host setup"
    )
    return HostError("The Docker Engine is installed, but it is not running.", hint=f"Run: {start}")


def _start() -> str:
    """Its version once it answers. Raises `HostError` with the end of its log."""
    if packages.systemd():
        started = subprocess.run(
            ["systemctl", "enable", "--now", "docker"], check=False, capture_output=True, text=True
        )
        if started.returncode != 0:
            raise HostError(
                f"systemd does not start the Docker Engine: {started.stderr.strip()[-300:]}",
                hint="See why: journalctl -u docker -n 20",
            )
        return _wait(None)
    mount_cgroups()
    command = [packages.program("dockerd") or "dockerd"]
    if not CONFIGURATION.exists():
        command += ["--default-address-pool", ADDRESS_POOL]
    return _wait(_outlive_us(command, LOG))


def _outlive_us(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """A daemon as a service manager would start one: a session of its own, no terminal, its output in a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env=os.environ | {"PATH": packages.PATH},
        )


def _wait(daemon: subprocess.Popen[bytes] | None) -> str:
    deadline = time.monotonic() + START_SECONDS
    while (version := answers(SOCKET)) is None:
        if time.monotonic() > deadline or (daemon is not None and daemon.poll() is not None):
            hint = (
                f"The end of {LOG}:\n{_tail(LOG)}"
                if daemon is not None
                else "See: journalctl -u docker -n 20"
            )
            raise HostError("The Docker Engine does not start.", hint=hint)
        time.sleep(0.1)
    return version


def mount_cgroups(root: Path = CGROUPS) -> bool:
    """What an init system would have done: a bare machine may have no control groups mounted. Whether it was needed."""
    if (root / "cgroup.controllers").exists() or (root / "memory").exists():
        return False
    mounted = subprocess.run(
        ["mount", "-t", "cgroup2", "cgroup2", root], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        raise HostError(
            f"No control groups are mounted, and they cannot be: {mounted.stderr.strip()}",
            hint=f"Mount them, then try again: mount -t cgroup2 cgroup2 {root}",
        )
    return True


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-5:]) if path.exists() else "(no log)"
