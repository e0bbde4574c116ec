"""A driver under test, with an installation of its own: the engine in memory, or this machine's Docker."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

from leasing.drivers.docker import DockerDriver
from leasing.drivers.fake import FakeDriver
from leasing.drivers.protocol import Container, Driver
from leasing.drivers.spec import LeaseFacts, build
from leasing.settings.docker import DockerSettings
from tests.support.images import BUSYBOX, ensure_busybox


@dataclass
class Bench:
    """A driver and an installation of this test's own."""

    driver: Driver
    installation: str
    real: bool

    def facts(self, **changes: object) -> LeaseFacts:
        base = LeaseFacts(
            lease_id=uuid4(), name="contract", owner="ada", installation=self.installation, generation=1,
            image=BUSYBOX, command=("sleep", "600"), env={}, cpus=0.1, memory_bytes=2**25, shm_bytes=None,
            device_uuids=(), workspace=None,
        )  # fmt: skip
        return replace(base, **changes)  # type: ignore[arg-type]  # the dataclass checks the names

    def up(self, facts: LeaseFacts) -> Container:
        image = self.driver.find_image(facts.image)
        assert image is not None
        spec = build(facts, image, DockerSettings())
        return self.driver.start(self.driver.create(spec).id)


@contextmanager
def opened(*, real: bool) -> Iterator[Bench]:
    """One for the length of a block; nothing of it is left on the engine afterwards."""
    if real:
        ensure_busybox()
    driver: Driver = DockerDriver("", DockerSettings()) if real else FakeDriver(images=(BUSYBOX,))
    made = Bench(driver, secrets.token_hex(4), real)
    yield made
    for container in driver.containers(made.installation):
        driver.remove(container.id, network=None)
    for network in driver.networks(made.installation):
        driver.remove_network(network)
    for volume in driver.volumes(made.installation):
        driver.remove_volume(volume)
    driver.close()


def network_of(bench: Bench, container: Container) -> str:
    return container.name.rsplit("-", 1)[0]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 s"
        time.sleep(0.02)


def docker(*arguments: str) -> str:
    """What docker's own command line says."""
    return subprocess.check_output(["docker", *arguments], text=True)


def output(bench: Bench, container: Container, command: list[str]) -> tuple[int, bytes]:
    stream = bench.driver.exec(container.id, command, tty=False)
    data = b""
    while part := stream.read():
        data += part
    code = stream.exit_code()
    stream.close()
    assert code is not None
    return code, data
