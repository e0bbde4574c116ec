"""Trying an environment: its smoke command, in a container like a lease's."""

from __future__ import annotations

import secrets
import time
from uuid import uuid4

from images.catalogue import Environment
from leasing import names
from leasing.drivers import spec
from leasing.drivers.protocol import Lifecycle
from leasing.errors import DriverError
from leasing.settings.docker import DockerSettings

SECONDS = 60.0
POLL = 0.05


def check(engine: Lifecycle, environment: Environment, settings: DockerSettings) -> None:
    """Raises `DriverError` with what the command printed if it fails or takes too long; leaves nothing behind."""
    image = engine.find_image(environment.reference)
    if image is None:
        raise DriverError(f"The environment {environment.name} is not built on this engine.")
    facts = spec.LeaseFacts(
        lease_id=uuid4(), name="smoke", owner="smoke", installation=secrets.token_hex(4), generation=1,
        image=environment.reference, command=("sh", "-ec", environment.smoke), env={}, cpus=1.0,
        memory_bytes=2 * 1024**3, shm_bytes=None, device_uuids=(), workspace=None,
    )  # fmt: skip
    made = spec.build(facts, image, settings)
    try:
        container = engine.start(engine.create(made).id)
        deadline = time.monotonic() + SECONDS
        while container.running:
            if time.monotonic() > deadline:
                raise DriverError(f"The environment {environment.name} was not tried within {SECONDS:.0f} s.")
            time.sleep(POLL)
            container = engine.inspect(container.id) or container
        if container.exit_code != 0:
            raise DriverError(
                f"The environment {environment.name} is broken: {engine.tail(container.id, 10)}"
            )
    finally:
        engine.remove(made.name, network=names.network(facts.installation, facts.lease_id))
