"""Making sure that a lease's image is on its engine: found, built from the catalogue, or pulled."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import images.build
from images.catalogue import resolve
from leasing.drivers.protocol import KEPT, LABEL_ROLE, Image, Lifecycle, Progress, RegistryLogin
from leasing.errors import ImageNotFound

Logins = Callable[[str], RegistryLogin | None]
"""Image reference → the login for its registry, if there is one."""


@dataclass(frozen=True)
class Provisioned:
    """An image that is there, by the name to make containers from."""

    reference: str
    image: Image


class Images:
    """Finds, builds and pulls. Of many leases that need the same absent image, one fetches it and the rest wait."""

    def __init__(self, logins: Logins) -> None:
        self._logins = logins
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def ensure(self, engine: Lifecycle, asked: str, progress: Progress) -> Provisioned:
        """Raises `ImageNotFound` when it can be had in no way, `DriverError` when a build fails.

        A suspended lease's files are an image on the engine like any other, but nobody else's to ask for.
        """
        resolved = resolve(asked)
        found = engine.find_image(resolved.reference)
        if found is None:
            with self._lock:
                turn = self._fetching[resolved.reference]
            progress("waiting for the image")
            with turn:
                if resolved.environment is not None:
                    found = images.build.ensure(engine, resolved.environment, progress)
                else:
                    found = engine.find_image(resolved.reference) or engine.pull_image(
                        resolved.reference, self._logins(resolved.reference), progress
                    )
        if found.labels.get(LABEL_ROLE) == KEPT:
            raise ImageNotFound(f"{asked!r} is no image to lease: it holds the files of a lease.")
        return Provisioned(resolved.reference, found)
