"""Sandboxes: a network of its own, held by a container that does nothing, made before anybody asks for it.

Whoever starts in one joins a network that is up already, which is most of what a start takes. The container holds the
network's name space open and no more: its image has one file, a few instructions long.
"""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Mapping

import docker
from docker.errors import APIError, NotFound

from leasing.drivers import spec
from leasing.drivers.docker import convert
from leasing.drivers.docker.connection import Connection
from leasing.drivers.docker.networks import Networks
from leasing.drivers.protocol import Container
from leasing.errors import DriverError

REPOSITORY, TAG = "leasing/sandbox", "1"
MEMORY_BYTES = 16 * 1024**2
LOADED_AT = 0x400000

# For ever: pause(); jump back. On ARM, which has no pause, ppoll() of nothing without an end.
CODE = {
    "x86_64": (62, bytes.fromhex("b822000000 0f05 ebf7")),
    "aarch64": (
        183,
        bytes.fromhex("000080d2 010080d2 020080d2 030080d2 040080d2 280980d2 010000d4 f9ffff17"),
    ),
}


class Sandboxes:
    """The part of the driver that makes them."""

    _connection: Connection
    _networks: Networks

    def sandbox(self, name: str, bridge: str, labels: Mapping[str, str]) -> Container:
        with self._connection.call() as client:
            found = _create(client, name, labels)
            if found is None:
                _ensure_image(client)
                found = _create(client, name, labels)
            if found is None:
                raise DriverError(f"The engine did not take the image {REPOSITORY}:{TAG}.")
            self._networks.create(client, name, bridge, dict(labels))
            client.start(found)
            return convert.container(client.inspect_container(found))


def _create(client: docker.APIClient, name: str, labels: Mapping[str, str]) -> str | None:
    """Its id; None where the image is missing."""
    host = client.create_host_config(
        network_mode=name, mem_limit=MEMORY_BYTES, memswap_limit=MEMORY_BYTES, pids_limit=16, cap_drop=["ALL"],
        security_opt=["no-new-privileges"], read_only=True, restart_policy={"Name": "no"},
    )  # fmt: skip
    try:
        made = client.create_container(
            f"{REPOSITORY}:{TAG}", command=["/pause"], name=name, hostname=spec.UNNAMED, user=spec.USER,
            labels=dict(labels), host_config=host, stop_signal="SIGKILL",
        )  # fmt: skip
        return str(made["Id"])
    except NotFound:
        return None
    except APIError as error:
        if error.status_code != 409:
            raise
        return str(client.inspect_container(name)["Id"])


def _ensure_image(client: docker.APIClient) -> None:
    architecture = client.info()["Architecture"]
    if architecture not in CODE:
        raise DriverError(f"There is no sandbox for {architecture}.", hint="Set LEASING_WARM_SANDBOXES=0.")
    client.import_image_from_data(archive(architecture), repository=REPOSITORY, tag=TAG)


def archive(architecture: str) -> bytes:
    """The image's root file system: the program, as the smallest ELF file that holds it."""
    machine, code = CODE[architecture]
    headers = 64 + 56
    size = headers + len(code)
    program = (
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, LOADED_AT + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        + struct.pack("<IIQQQQQQ", 1, 5, 0, LOADED_AT, LOADED_AT, size, size, 0x10000)
        + code
    )
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = size, 0o755
        tar.addfile(entry, io.BytesIO(program))
    return data.getvalue()
