"""What an engine says → what people are told, on messages of real engines."""

from __future__ import annotations

import pytest

from leasing.drivers.docker.errors import translated
from leasing.errors import ContainerGone, DiskFull, DriverError, ImageNotFound

OCI = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "


@pytest.mark.parametrize(
    ("message", "error", "said"),
    [
        (OCI + 'exec: "nope": executable file not found in $PATH: unknown', DriverError, "no executable nope"),
        (OCI + 'exec: "/etc/passwd": permission denied: unknown', DriverError, "/etc/passwd in the image may not"),
        (
            OCI + "error running hook #0: exit status 1, nvidia-container-cli: device error: GPU-4f: unknown device",
            DriverError, "knows no device GPU-4f",
        ),
        ("nvidia-container-cli: device error: unknown device id: GPU-4f", DriverError, "knows no device GPU-4f"),
        (
            'could not select device driver "nvidia" with capabilities: [[gpu compute utility]]',
            DriverError, "lacks the NVIDIA container toolkit",
        ),
        ("mkdir /var/lib/docker/x: no space left on device", DiskFull, "disk is full"),
        ("No such image: a/b:1", ImageNotFound, "no image a/b:1"),
        ("No such container: abc", ContainerGone, "no such container"),
        # trouble between the engine and its parts passes; it says nothing about the image
        ("dial unix /run/containerd/containerd.sock: connect: connection refused: unavailable", DriverError, "refused"),
        (OCI + "open /dev/x: permission denied: unknown", DriverError, "The engine refused"),
    ],
)  # fmt: skip
def test_an_engine_s_message(message: str, error: type[DriverError], said: str) -> None:
    found = translated(message)
    assert type(found) is error
    assert said in found.message


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "pull access denied for a/b, repository does not exist or may require 'docker login'",
            "no image a/b",
        ),
        ("manifest for a/b:9 not found: manifest unknown: manifest unknown", "no image a/b:9"),
        ("Get https://r.test/v2/: unauthorized: authentication required", "other credentials"),
        ("Head https://r.test/v2/x: no basic auth credentials", "other credentials"),
        ("Get https://r.test/v2/: dial tcp: lookup r.test: no such host", "cannot be reached"),
        ("Get https://r.test/v2/: dial tcp 10.0.0.1:443: connect: connection refused", "cannot be reached"),
        ("Get https://r.test/v2/: x509: certificate signed by unknown authority", "cannot be reached"),
    ],
)
def test_a_registry_s_message(message: str, said: str) -> None:
    found = translated(message, pulling=True)
    assert type(found) is ImageNotFound
    assert said in found.message
    assert message in (found.hint or ""), "what the engine said itself is kept"
