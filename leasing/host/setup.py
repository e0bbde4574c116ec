"""Getting this machine ready, step by step, each said with its time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import images.build
from images import smoke, tools
from images.catalogue import load
from leasing.drivers.docker import DockerDriver
from leasing.errors import DriverError, HostError
from leasing.host import engine, firewall, packages
from leasing.host.packages import Needs, Say
from leasing.settings.docker import DockerSettings
from leasing.settings.firewall import FirewallSettings
from leasing.settings.gateway import GatewaySettings

NVIDIA = Path("/dev/nvidiactl")
NO_GPUS = """\
  This machine has NVIDIA devices, but its engine cannot hand them to containers. Install the NVIDIA Container Toolkit:
    https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html
    nvidia-ctk runtime configure --runtime=docker, then restart the engine"""


def setup(*, for_tests: bool) -> None:
    """Engine, firewall and base environment; with `for_tests` the programs that the tests use. Raises `HostError`."""
    settings = DockerSettings()
    if for_tests:
        _step("Programs for the tests", lambda say: _installed(packages.TESTS, say))
    elif GatewaySettings().plane == "haproxy":
        _step("Gateway's proxy", lambda say: _installed(packages.PROXY, say))
    _step("Docker Engine", lambda say: engine.ensure(settings.address, say))
    driver = DockerDriver(settings.address, settings)
    try:
        if NVIDIA.exists() and not engine.hands_out_gpus(driver.probe().gpu_runtime):
            print(NO_GPUS)
        _step("Firewall", _firewall)
        _step("Base environment", lambda say: _base(driver, settings, say))
        _step("SSH into leases", lambda say: _ssh(driver, say))
    finally:
        driver.close()


def _installed(needs: Needs, say: Say) -> str:
    lacking = packages.missing(needs)
    packages.install(lacking, say)
    return f"installed {', '.join(lacking)}" if lacking else "found"


def _firewall(_: Say) -> str:
    found = firewall.ensure(FirewallSettings())
    return f"{found.state}, {found.detail}"


def _base(driver: DockerDriver, settings: DockerSettings, say: Say) -> str:
    base = load()["base"]
    if driver.find_image(base.reference) is not None:
        return f"found {base.reference}"
    try:
        images.build.ensure(driver, base, say)
    except HostError:
        lacking = packages.missing(packages.DEBIAN)
        if not lacking or os.geteuid() != 0:
            raise
        packages.install(lacking, say)
        images.build.ensure(driver, base, say)
    say("trying it")
    smoke.check(driver, base, settings)
    return f"built {base.reference}"


def _ssh(driver: DockerDriver, say: Say) -> str:
    """Leases go without it where it cannot be built."""
    if driver.find_image(tools.reference()) is not None:
        return f"found {tools.reference()}"
    try:
        tools.ensure(driver, say)
    except (DriverError, HostError) as error:
        return f"not built, which the scheduler will try again: {error}"
    return f"built {tools.reference()}"


def _step(name: str, work: Callable[[Say], str]) -> None:
    """One line a step, with its time; while it lasts, what it does."""
    began = time.monotonic()
    telling = Telling(name, live=sys.stdout.isatty())
    said = work(telling)
    telling.end(f"{name} … {said}, {time.monotonic() - began:.1f} s")


@dataclass
class Telling:
    """What a step is doing: on a terminal in one line that changes, in a log a line now and then."""

    name: str
    live: bool
    clock: Callable[[], float] = time.monotonic
    every_seconds: float = 10.0
    _last: float = float("-inf")

    def __call__(self, text: str) -> None:
        line = f"  {self.name} … {' '.join(text.split())[:90]}"
        if self.live:
            print(f"\r\033[K{line}", end="", flush=True)
        elif self.clock() - self._last >= self.every_seconds:
            self._last = self.clock()
            print(line, flush=True)

    def end(self, text: str) -> None:
        print(("\r\033[K" if self.live else "") + f"  {text}", flush=True)
