"""A Docker Engine on this machine: found, or installed and started."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from leasing.errors import HostError
from leasing.host import packages
from leasing.host.packages import Say

SOCKET = Path("/var/run/docker.sock")
LOG = Path("/var/log/leasing-dockerd.log")
START_SECONDS = 60.0
ADDRESS_POOL = "base=10.212.0.0/16,size=26"
"""For networks that are not ours: the engine's own default runs out at thirty."""


def ensure(say: Say) -> str:
    """The version of an engine that answers. Raises `HostError` saying what to do."""
    if os.environ.get("DOCKER_HOST", f"unix://{SOCKET}") != f"unix://{SOCKET}":
        return f"at {os.environ['DOCKER_HOST']}"  # not this machine's to start
    if (version := answers()) is not None:
        return version
    if SOCKET.exists() and not os.access(SOCKET, os.W_OK):
        raise HostError(
            f"{SOCKET} may not be used by this user.",
            hint=f"Run: sudo usermod -aG docker {os.environ.get('USER', '$USER')}, then sign in anew.",
        )
    if os.geteuid() != 0:
        if shutil.which("dockerd", path="/usr/sbin:/usr/bin:/usr/local/bin"):
            raise HostError("The Docker Engine is not running.", hint="Run: sudo systemctl start docker")
        raise HostError(
            "There is no Docker Engine on this machine.",
            hint="Run this as root to have it installed, or: sudo apt-get install docker.io",
        )
    packages.install(packages.missing(packages.ENGINE), say)
    say("starting the Docker Engine")
    _start()
    deadline = time.monotonic() + START_SECONDS
    while (version := answers()) is None:
        if time.monotonic() > deadline:
            raise HostError(f"The Docker Engine does not start; the end of {LOG}:\n{_tail(LOG)}")
        time.sleep(0.2)
    return version


def answers(path: Path = SOCKET) -> str | None:
    """The version of the engine behind that socket; None if nothing answers."""
    connection = http.client.HTTPConnection("localhost", timeout=5)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        connection.sock.connect(str(path))
        connection.request("GET", "/_ping")
        answer = connection.getresponse()
        answer.read()
        return (answer.getheader("Server") or "").partition("Docker/")[2].split(" ")[
            0
        ] or "of unknown version"
    except OSError:
        return None
    finally:
        connection.close()


def _start() -> None:
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "enable", "--now", "docker"], check=False, capture_output=True)
        return
    _mount_cgroups()
    daemon = shutil.which("dockerd", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin") or "dockerd"
    command = [daemon]
    if not Path("/etc/docker/daemon.json").exists():
        command += ["--default-address-pool", ADDRESS_POOL]
    with LOG.open("ab") as log:
        # a session of its own: it outlives us, as a service would
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )


def _mount_cgroups() -> None:
    """What an init system would have done: a bare machine may have no control groups mounted."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists() or (root / "memory").exists():
        return
    if "cgroup2" in Path("/proc/filesystems").read_text():
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", root], check=False, capture_output=True)


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-5:]) if path.exists() else "(no log)"
