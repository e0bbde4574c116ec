"""The image of the platform's own programs, which every lease sees read-only: an SSH server that runs in any image."""

from __future__ import annotations

from functools import cache

import images.build
from images.catalogue import ROOT, Environment
from leasing.drivers.protocol import Image, Lifecycle, Progress

SSH = Environment(
    name="ssh",
    title="SSH",
    description="The SSH server of leases, with all that it loads.",
    folder=ROOT / "ssh",
    parent=None,
    port=None,
    inside=False,
    smoke="",
)
"""No environment to lease, so not in the catalogue."""


@cache
def reference() -> str:
    """The image's name; its tag is the content's hash."""
    return SSH.reference


def ensure(engine: Lifecycle, progress: Progress) -> Image:
    """On that engine, built if it is absent. Raises `DriverError`, `HostError`."""
    return images.build.ensure(engine, SSH, progress)
