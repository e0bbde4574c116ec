"""A Docker Engine of a test's own, which it may stop, kill and start again without harm to anybody else's.

It lives in a network namespace of its own, for two engines in one would take each other's bridges away. A cable (veth)
leads there from the machine, and the machine has a route to `pool`: programs on the machine reach a container by its
own address, as on the machine's own engine, so long as its network was made out of `pool`. Containers reach nothing but
their engine and the machine's end of the cable. Needs root.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from leasing.drivers.docker import DockerDriver
from leasing.host.engine import answers
from leasing.settings.docker import DockerSettings
from tests.support import hook, scratch
from tests.support.images import ensure_busybox
from tests.support.nvml import FakeNvml

READY_SECONDS = 30.0


class SecondEngine:
    """Use it as a context manager, from the main thread: the engine dies with the thread that started it.

    `address` is for LEASING_DOCKER_ADDRESS and `pool` for LEASING_DOCKER_NETWORK_POOL, or see `environment`.
    """

    def __init__(self, *, nvml: FakeNvml | None = None, remote: bool = False) -> None:
        """`nvml`: devices that the engine can hand out (through `hook`); None: it has no way to.

        `remote`: it also answers over the cable, as an engine on another machine does; `self.remote` is where.
        """
        self.key = secrets.token_hex(4)
        self.root = scratch.folder("leasing-engine-")
        self.address = f"unix://{self.root}/docker.sock"
        self.data = self.root / "data"
        """All that it has, from its next start on: in another folder it finds what a disk has that is not mounted."""
        self.pool = ""
        self.remote = "remote" if remote else ""
        self.forgot_networks = False
        """Whether its store of networks had to be taken away for it to start."""
        self._nvml = nvml
        self._namespace = f"leasing-test-{self.key}"
        self._link = f"lt{self.key}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """For a platform that shall use this engine."""
        return {"LEASING_DOCKER_ADDRESS": self.address, "LEASING_DOCKER_NETWORK_POOL": self.pool}

    @property
    def log(self) -> str:
        return (self.root / "dockerd.log").read_text(errors="replace")

    def driver(self) -> DockerDriver:
        """A new driver to this engine; close it."""
        return DockerDriver(self.address, DockerSettings(network_pool=self.pool))

    def docker(self, *arguments: str) -> str:
        """What docker's own command line says of this engine."""
        return subprocess.check_output(["docker", "-H", self.address, *arguments], text=True)

    def leases(self, *, running: bool = False) -> list[str]:
        """Ids of the containers that leases have; not of what waits for one."""
        only = ("--filter", "status=running") if running else ()
        return self.docker("ps", "-aq", "--no-trunc", "--filter", "label=leasing.role=lease", *only).split()

    def load(self, image: str) -> None:
        """Copy an image over from the machine's own engine."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
            subprocess.run(
                ["docker", "-H", self.address, "load", "-q"],
                stdin=saving.stdout,
                check=True,
                capture_output=True,
            )

    def start(self) -> None:
        """Start it, and return when it answers."""
        self.launch()
        self._await()

    def launch(self) -> None:
        """Start it, and do not wait."""
        self._forget_containerd()
        self._forget_networks()
        path = os.environ["PATH"]
        if self._nvml is not None:
            hook.install(self.root / "bin", self._nvml.library, self._nvml.state)
            path = f"{self.root}/bin:{path}"
        with (self.root / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "TERM", "nsenter", f"--net=/run/netns/{self._namespace}", "dockerd"),
                    *("--host", self.address, *self._remotely, "--data-root", str(self.data)),
                    *("--exec-root", str(self.root / "exec"), "--pidfile", str(self.root / "docker.pid")),
                    *("--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{self._namespace}"),
                    # where the machine has a containerd of its own, both engines use it
                    *("--containerd-namespace", self._namespace),
                    *("--containerd-plugins-namespace", f"{self._namespace}-plugins"),
                ],
                env={**os.environ, "PATH": path}, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def stop(self) -> None:
        """As `systemctl stop docker` does: its containers are stopped with it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash does: containers run on without it, until it starts again and ends them."""
        self._end(signal.SIGKILL)

    @property
    def pid(self) -> int | None:
        """While it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def namespace(self) -> str:
        """Of its network, as `ip netns` knows it."""
        return self._namespace

    @property
    def _remotely(self) -> tuple[str, ...]:
        return ("--host", self.remote, "--tls=false") if self.remote else ()

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def _forget_containerd(self) -> None:
        """The engine's containerd dies with it. The next engine takes whatever process has its number for it, and then
        waits for it in vain: one that process 1 is slow to reap, or a stranger who was given the number since."""
        noted = self.root / "exec" / "containerd" / "containerd.pid"
        if noted.exists():
            try:
                words = Path(f"/proc/{noted.read_text().strip()}/cmdline").read_bytes().decode()
            except OSError:
                words = ""
            if str(self.root) not in words:  # that of a zombie is empty
                noted.unlink()

    def _forget_networks(self) -> None:
        """What an admin does about an engine that never starts again (docs/operations.md): of a network in whose making
        or removing it was killed, Docker 20.10 keeps a half, and panics over it in each start."""
        log = self.root / "dockerd.log"
        if log.exists() and "controller).reservePools" in log.read_text(errors="replace")[-8000:]:
            (self.data / "network" / "files" / "local-kv.db").unlink(missing_ok=True)
            listed = subprocess.check_output(
                ["ip", "-n", self._namespace, "-j", "link", "show", "type", "bridge"]
            )
            self.forgot_networks = True
            for bridge in json.loads(listed):
                _try("-n", self._namespace, "link", "delete", bridge["ifname"])

    def _await(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_SECONDS
        while answers(self.root / "docker.sock") is None:
            assert self._process.poll() is None, self.log[-3000:]
            assert time.monotonic() < deadline, self.log[-3000:]
            time.sleep(0.02)

    def __enter__(self) -> Self:
        try:
            self._connect()
            self.start()
            ensure_busybox(self.address)
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def _connect(self) -> None:
        """The namespace, the cable, and a pool that no other engine's test has: a route can be added only once."""
        name, link = self._namespace, self._link
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("link", "add", link, "type", "veth", "peer", "name", "up0", "netns", name)
        _ip("-n", name, "link", "set", "up0", "up")
        _ip("link", "set", link, "up")
        # 10.192.0.0/12 in /20s: none of it is in the pools of the platform or of the machine's own engine
        for number in random.sample(range(256), 256):
            self.pool = f"10.{192 + number // 16}.{number % 16 * 16}.0/20"
            cable = f"169.254.{number}"
            if _try("route", "add", self.pool, "dev", link, "scope", "link"):
                break
        else:
            raise AssertionError("every pool for engines of tests is taken")
        _ip("address", "add", f"{cable}.1/30", "dev", link)
        _ip("-n", name, "address", "add", f"{cable}.2/30", "dev", "up0")
        if self.remote:
            self.remote = f"tcp://{cable}.2:2375"
        _ip("route", "replace", self.pool, "via", f"{cable}.2", "dev", link)
        # dockerd forwards nothing that comes from outside to its bridges, except what this chain lets pass
        for rule in (("-N", "DOCKER-USER"), ("-A", "DOCKER-USER", "-i", "up0", "-j", "ACCEPT")):
            subprocess.run(["nsenter", f"--net=/run/netns/{name}", "iptables", "-w", *rule], check=True)

    def _clear(self) -> None:
        """Leave nothing: containers go first, while there is an engine to end them."""
        if self._process is not None and self._process.poll() is None:
            left = subprocess.run(
                ["docker", "-H", self.address, "ps", "-aq"], capture_output=True, text=True, check=False
            ).stdout.split()
            if left:
                subprocess.run(
                    ["docker", "-H", self.address, "rm", "-fv", *left], capture_output=True, check=False
                )
            self.stop()
        for group in self._groups():
            _end_all(group)
        for mounted in _mounts_below(self.root):
            subprocess.run(["umount", "-l", mounted], check=False)
        _try("link", "delete", self._link)
        _try("netns", "delete", self._namespace)
        shutil.rmtree(self.root, ignore_errors=True)

    def _groups(self) -> list[Path]:
        """Its containers' control groups: one folder, or one a controller."""
        root = Path("/sys/fs/cgroup")
        return [one for one in (root / self._namespace, *root.glob(f"*/{self._namespace}")) if one.is_dir()]


def _end_all(group: Path) -> None:
    """End what a killed engine left running in it, and remove it."""
    folders = [*sorted((one for one in group.rglob("*") if one.is_dir()), reverse=True), group]
    for folder in folders:
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    deadline = time.monotonic() + 5
    for folder in folders:
        while folder.exists() and time.monotonic() < deadline:
            try:
                folder.rmdir()
            except OSError:  # the kernel still counts what was killed just now
                time.sleep(0.02)


def _mounts_below(root: Path) -> list[str]:
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((one for one in mounted if one.startswith(f"{root}/")), reverse=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _try(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], check=False, capture_output=True).returncode == 0
