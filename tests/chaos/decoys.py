"""Another installation's things on the same engine, and nobody's: the platform must never touch them."""

from __future__ import annotations

import docker

from tests.support.images import BUSYBOX

OTHER = "decoy000"
LABELS = {"leasing.installation": OTHER, "leasing.role": "lease", "leasing.lease": "0" * 32}


class Decoys:
    """One container that runs and one that does not, a network, a volume and an image, labelled as a neighbour's."""

    def __init__(self, address: str, installation: str) -> None:
        self._address = address
        self._names = [
            f"leasing-{OTHER}-0123456789ab-1", f"leasing-{OTHER}-0123456789ab-2", f"leasing-{installation}-lookalike",
        ]  # fmt: skip

    def make(self) -> None:
        client = docker.APIClient(base_url=self._address, timeout=20)
        try:
            for name in self._names:  # the last bears our name, and no label at all
                own = LABELS if OTHER in name else {}
                client.create_container(BUSYBOX, ["sleep", "86400"], name=name, labels=own)
            client.start(self._names[0])
            client.create_network(f"leasing-{OTHER}-0123456789ab", labels=LABELS)
            client.create_volume(f"leasing-{OTHER}-ws-0123456789ab", labels=LABELS)
            client.tag(BUSYBOX, f"leasing/kept-{OTHER}-0123456789ab", "1")
        finally:
            client.close()

    def make_network(self) -> None:
        """Again, after its engine lost all that it had."""
        client = docker.APIClient(base_url=self._address, timeout=20)
        try:
            client.create_network(f"leasing-{OTHER}-0123456789ab", labels=LABELS)
        finally:
            client.close()

    def missing(self) -> list[str]:
        """Names of those that are gone."""
        client = docker.APIClient(base_url=self._address, timeout=20)
        try:
            there = {one["Names"][0].lstrip("/") for one in client.containers(all=True)}
            there |= {one["Name"] for one in client.networks()}
            there |= {one["Name"] for one in client.volumes()["Volumes"] or ()}
            there |= {tag for image in client.images() for tag in image["RepoTags"] or ()}
        finally:
            client.close()
        made = [
            *self._names, f"leasing-{OTHER}-0123456789ab", f"leasing-{OTHER}-ws-0123456789ab",
            f"leasing/kept-{OTHER}-0123456789ab:1",
        ]  # fmt: skip
        return [name for name in made if name not in there]
