"""One part of the platform, as `lease serve --role ROLE` runs it, on engines that each have a pool of networks."""

from __future__ import annotations

import json
import os
import threading

from leasing.cli import part, server
from leasing.drivers.docker import DockerDriver
from leasing.drivers.protocol import Driver
from leasing.settings.docker import DockerSettings
from tests.chaos.nursery import POOLS


class Drivers:
    """In place of the composition root's own: it knows one pool, and engines of tests have one each."""

    def __init__(self, docker: DockerSettings) -> None:
        self._docker = docker
        self._pools: dict[str, str] = json.loads(os.environ[POOLS])
        self._lock = threading.Lock()
        self._open: dict[str, Driver] = {}

    def connect(self, driver: str, address: str) -> Driver:
        assert driver == "docker", driver
        with self._lock:
            if address not in self._open:
                settings = self._docker.model_copy(update={"network_pool": self._pools[address]})
                self._open[address] = DockerDriver(address, settings)
            return self._open[address]


def run(role: str) -> None:
    """Until it is told to stop, or killed."""
    part.Drivers = Drivers  # type: ignore[assignment,misc]  # the same two methods
    part.guard = lambda: None  # the machine's firewall is not a test's to change
    server.serve(role, None)
