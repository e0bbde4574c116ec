"""The platform's own programs inside leases: a volume filled from their image once, mounted read-only from then on.

An engine fills an empty volume with what the image has at that place. The volume is named for the image, so all
installations of an engine share it, and a newer image comes with a volume of its own.
"""

from __future__ import annotations

import logging
import secrets
import threading

import docker
from docker.errors import APIError, NotFound
from docker.types import Mount as DockerMount

from leasing.drivers import spec as lease_spec
from leasing.drivers.protocol import BUILDER, LABEL_INSTALLATION, LABEL_ROLE, ContainerSpec

log = logging.getLogger(__name__)
LAST = f"{lease_spec.TOOLS}/version"
"""The engine copies in the order of names: where this file is, all of them are."""


class Tools:
    """Those of one engine. Thread-safe."""

    def __init__(self) -> None:
        # volumes that were found to be whole, and when each was made: one that was removed since is made anew
        self._whole: dict[str, str] = {}
        self._filling = threading.Lock()

    def mounted(self, client: docker.APIClient, spec: ContainerSpec) -> list[DockerMount]:
        """What to mount for a container that is made of `spec`.

        Nothing where they cannot be had: nobody's start is to fail because of that.
        """
        if spec.tools is None:
            return []
        volume = f"leasing-{spec.tools.rpartition('/')[2].replace(':', '-')}"
        try:
            if not self._known(client, volume):
                with self._filling:
                    if not self._known(client, volume):
                        self._fill(client, volume, spec.tools, spec.labels[LABEL_INSTALLATION])
        except NotFound:
            return []  # the image is not on this engine, or not yet
        except APIError as error:
            log.warning("a container is made without tools volume=%s error=%s", volume, error.explanation)
            return []
        return [DockerMount(lease_spec.TOOLS, volume, type="volume", read_only=True, no_copy=True)]

    def _known(self, client: docker.APIClient, volume: str) -> bool:
        try:
            made: str = client.inspect_volume(volume)["CreatedAt"]
        except NotFound:
            return False
        return self._whole.get(volume) == made

    def _fill(self, client: docker.APIClient, volume: str, image: str, installation: str) -> None:
        """Find out whether it is whole, by a container that is never started; fill it if it is empty."""
        helper = f"{volume}-{secrets.token_hex(4)}"
        labels = {LABEL_INSTALLATION: installation, LABEL_ROLE: BUILDER}
        mount = DockerMount(lease_spec.TOOLS, volume, type="volume")
        host = client.create_host_config(mounts=[mount], network_mode="none")
        client.create_container(image, name=helper, labels=labels, host_config=host)
        try:
            answer, _ = client.get_archive(helper, LAST)
            for _ in answer:  # to its end, so that the connection is free again
                pass
        except NotFound:
            # its engine died while it filled it: nobody has been given it
            client.remove_container(helper, force=True)
            client.remove_volume(volume)
            raise
        client.remove_container(helper, force=True)
        self._whole[volume] = client.inspect_volume(volume)["CreatedAt"]
