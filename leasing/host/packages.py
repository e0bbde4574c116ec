"""Installing what is missing from the machine's own distribution."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from leasing.errors import HostError

Say = Callable[[str], None]

# program that shows that it is there → packages that bring it
Needs = Mapping[str, Sequence[str]]
ENGINE: Needs = {"dockerd": ["docker.io"], "iptables": ["iptables"]}
DEBIAN: Needs = {"debootstrap": ["debootstrap", "debian-archive-keyring"]}
"""For making the first layer of the environments where no registry answers."""
PROXY: Needs = {"haproxy": ["haproxy"]}
"""For the gateway's production plane, where LEASING_GATEWAY_PLANE asks for it."""
TESTS: Needs = {
    "gcc": ["gcc", "libc6-dev"],
    "busybox": ["busybox-static"],
    "chromium": ["chromium"],
    "promtool": ["prometheus"],
    "ip": ["iproute2"],
    "nsenter": ["util-linux"],
    "openssl": ["openssl"],
    "ssh": ["openssh-client"],
    "redis-server": ["redis-server"],
    "curl": ["curl"],
    # What stands before the pages and the api (api/edge), and what measures the gateway.
    "nginx": ["nginx", "libnginx-mod-http-modsecurity", "modsecurity-crs"],
    "wrk": ["wrk"],
    **PROXY,
    **DEBIAN,
}

OWN = {"prometheus", "redis-server", "haproxy", "nginx"}
"""Packages with a service of the same name, which nobody asked for: we start our own."""

PATH = ":".join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
POLICY = Path("/usr/sbin/policy-rc.d")
LOCK_SECONDS = 300
"""A fresh machine is often upgrading itself: its lock on the packages is waited for."""


def program(name: str) -> str | None:
    """Where it is; system programs are found although a user's PATH leaves their folders out."""
    return shutil.which(name, path=PATH)


def missing(needs: Needs) -> list[str]:
    """Packages whose program is not on this machine."""
    return sorted(
        {package for name, packages in needs.items() if program(name) is None for package in packages}
    )


def install(packages: Sequence[str], say: Say) -> None:
    """By apt, as root, without starting any service that a package brings. Raises `HostError` with the command."""
    if not packages:
        return
    command = f"apt-get install {' '.join(packages)}"
    if program("apt-get") is None:
        raise HostError(
            f"This machine lacks what Debian calls {', '.join(packages)}, and has no apt-get.",
            hint="Install it the way of your distribution, then try again.",
        )
    if os.geteuid() != 0:
        raise HostError(f"This machine lacks {', '.join(packages)}.", hint=f"Run: sudo {command}")
    with _no_service_starts():
        say("reading the package lists")
        _apt("update", "-qq")
        say(f"installing {', '.join(packages)}")
        _apt("install", "-y", "-qq", "--no-install-recommends", *packages)
    if systemd():
        # the tests start their own; the distribution's would come up at the next boot
        for service in OWN & set(packages):
            subprocess.run(["systemctl", "disable", "--quiet", service], check=False, capture_output=True)


def systemd() -> bool:
    """Whether systemd really runs this machine; its programs may be there without it."""
    return Path("/run/systemd/system").is_dir()


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian's own way to say so, unless this machine has a policy already."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _apt(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}", *arguments],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise HostError(
            f"apt-get {arguments[0]} failed: {(done.stderr or done.stdout).strip()[-400:]}",
            hint=f"See what it says: sudo apt-get {' '.join(part for part in arguments if part != '-qq')}",
        )
