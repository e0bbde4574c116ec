"""Installing what is missing from the machine's own distribution."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence

from leasing.errors import HostError

Say = Callable[[str], None]

# program that shows that it is there → package that brings it
ENGINE = {"dockerd": "docker.io", "iptables": "iptables", "tini": "tini", "debootstrap": "debootstrap"}
TESTS = {
    "gcc": "gcc",
    "busybox": "busybox-static",
    "chromium": "chromium",
    "promtool": "prometheus",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "debootstrap": "debootstrap",
}


def missing(programs: dict[str, str]) -> list[str]:
    """Packages whose program is not on this machine."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return sorted(
        {package for program, package in programs.items() if shutil.which(program, path=path) is None}
    )


def install(packages: Sequence[str], say: Say) -> None:
    """By apt, as root, without starting any service that a package brings. Raises `HostError` with the command."""
    if not packages:
        return
    command = f"apt-get install {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise HostError(f"This machine lacks {', '.join(packages)}.", hint=f"Run: sudo {command}")
    say(f"installing {', '.join(packages)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # 1: no service starts
    libraries = [*packages, "libc6-dev"] if "gcc" in packages else list(packages)
    for step in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *libraries]):
        done = subprocess.run(
            ["apt-get", *step], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise HostError(
                f"apt-get {step[0]} failed: {(done.stderr or done.stdout).strip()[-400:]}",
                hint=f"Run: sudo {command}",
            )
