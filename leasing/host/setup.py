"""Getting this machine ready, step by step, each said with its time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import images.build
from images.catalogue import load
from leasing.drivers.docker import DockerDriver
from leasing.drivers.protocol import Lifecycle
from leasing.host import engine, firewall, packages
from leasing.settings.docker import DockerSettings
from leasing.settings.firewall import FirewallSettings

NVIDIA = Path("/dev/nvidiactl")


def setup(*, for_tests: bool) -> None:
    """Engine, firewall and base environment; with `for_tests` the programs that the tests use. Raises `HostError`."""
    if for_tests:
        _step("programs for the tests", _programs)
    _step("Docker Engine", engine.ensure)
    settings = DockerSettings()
    driver = DockerDriver(settings.address, settings)
    try:
        if NVIDIA.exists() and not driver.probe().gpu_runtime:
            print(
                "  This machine has NVIDIA devices, but its engine cannot hand them to containers.\n"
                "  Install the NVIDIA container toolkit, then restart the engine:\n"
                "    apt-get install nvidia-container-toolkit\n"
                "    nvidia-ctk runtime configure && systemctl restart docker"
            )
        _step("firewall", _firewall)
        _step("base environment", lambda say: _base(driver, say))
    finally:
        driver.close()


def _programs(say: Callable[[str], None]) -> str:
    lacking = packages.missing(packages.TESTS)
    packages.install(lacking, say)
    return "installed" if lacking else "there"


def _firewall(_: Callable[[str], None]) -> str:
    found = firewall.ensure(FirewallSettings())
    return f"{found.state}: {found.detail}"


def _base(driver: Lifecycle, say: Callable[[str], None]) -> str:
    return images.build.ensure(driver, load()["base"], say).tags[0]


def _step(name: str, work: Callable[[Callable[[str], None]], str]) -> None:
    """One line a step; while it goes on, what it does: in place on a terminal, a line each elsewhere."""
    began = time.monotonic()
    live = sys.stdout.isatty()

    def say(text: str) -> None:
        line = f"  {name} … {text[:100]}"
        print(f"\r\033[K{line}" if live else line, end="" if live else "\n", flush=True)

    said = work(say)
    print(("\r\033[K" if live else "") + f"  {name}: {said} ({time.monotonic() - began:.1f} s)", flush=True)
