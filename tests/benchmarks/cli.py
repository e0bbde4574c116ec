"""P16: what a command of `lease` takes over a bare Python start, with `docker ps` beside it, in turns."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping

from tests.benchmarks._measure import said
from tests.support.stack import LEASE, running

ROUNDS, GOAL_SECONDS = 20, 0.150
BARE = "python -c pass"
WITH_GOAL = ("lease --version", "lease --help", "lease ls")


def main() -> None:
    commands = {
        BARE: [sys.executable, "-c", "pass"],
        "lease --version": [LEASE, "--version"],
        "lease --help": [LEASE, "--help"],
        "lease ls": [LEASE, "ls"],
        "lease show": [LEASE, "show", "nosuch"],
        "lease up": [LEASE, "up", "--memory", "nonsense"],
    }
    if docker := shutil.which("docker"):
        commands["docker ps"] = [docker, "ps"]
    with running() as stack:
        took = measured(commands, stack.environment)
    print(
        "P16, a command's own time over a bare Python start (one call to a quiet server in it, where it makes one)"
    )
    for name, values in took.items():
        added = [value - bare for value, bare in zip(values, took[BARE], strict=True)]
        goal = f"; goal {GOAL_SECONDS * 1000:.0f} ms: {verdict(added)}" if name in WITH_GOAL else ""
        print(f"  {name:16} {said(values):32} added {said(added)}{goal}")


def measured(commands: Mapping[str, list[str]], environment: Mapping[str, str]) -> dict[str, list[float]]:
    """Seconds of each command, round by round; the first round only fills caches, that of compiled code too."""
    usual = {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
    took: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(ROUNDS + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(
                command, env=usual, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            )
            if number:
                took[name].append(time.perf_counter() - began)
    return took


def verdict(added: list[float]) -> str:
    return "met" if statistics.median(added) <= GOAL_SECONDS else "missed"


if __name__ == "__main__":
    main()
