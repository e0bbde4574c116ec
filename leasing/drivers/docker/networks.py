"""A bridge network per lease, without traffic between containers, out of a pool of small ranges."""

from __future__ import annotations

import ipaddress
import random
import re
import threading
import time

import docker
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from leasing.errors import DriverError

LOST = re.compile(r"network \w+ not found")
PREFIX = 28
TRIES = 32


class Networks:
    """Makes and removes leases' networks; remembers for a moment which ranges are taken."""

    def __init__(self, pool: str) -> None:
        self._ranges = [str(network) for network in ipaddress.ip_network(pool).subnets(new_prefix=PREFIX)]
        self._pool = pool
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self._listed_at = 0.0

    def create(self, client: docker.APIClient, name: str, bridge: str, labels: dict[str, str]) -> str:
        """The id of the network of that name, found or made. Another installation may use the same pool: a range that
        turns out to be taken is passed over."""
        for _ in range(TRIES):
            subnet = self._pick(client)
            try:
                made = client.create_network(
                    name,
                    driver="bridge",
                    check_duplicate=True,
                    labels=labels,
                    ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)]),
                    options={
                        "com.docker.network.bridge.name": bridge,
                        "com.docker.network.bridge.enable_icc": "false",
                    },
                )
                return str(made["Id"])
            except APIError as error:
                said = str(error.explanation or error).lower()
                if error.status_code == 409 or "already exists" in said:
                    return str(client.inspect_network(name)["Id"])
                if "overlap" not in said and "in use" not in said:
                    self._forget(subnet)
                    raise
        raise DriverError(
            f"No free network range is left in {self._pool}.",
            hint="Release leases, or set LEASING_DOCKER_NETWORK_POOL to a larger range.",
        )

    def remove(self, client: docker.APIClient, name: str) -> None:
        """Remove it; one that is gone is removed already. A container that is just leaving is waited for, a second."""
        deadline = time.monotonic() + 1.0
        while True:
            try:
                return client.remove_network(name)
            except APIError as error:
                if error.status_code == 404:
                    return None
                if "active endpoints" not in str(error.explanation) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _pick(self, client: docker.APIClient) -> str:
        """A range that nobody has as far as is known; a random one, so that two processes rarely meet."""
        with self._lock:
            if time.monotonic() - self._listed_at > 30.0 or len(self._taken) * 2 > len(self._ranges):
                self._taken = _subnets(client)
                self._listed_at = time.monotonic()
            for _ in range(TRIES):
                subnet = random.choice(self._ranges)
                if subnet not in self._taken:
                    break
            else:
                free = [one for one in self._ranges if one not in self._taken]
                if not free:
                    raise DriverError(
                        f"No free network range is left in {self._pool}.",
                        hint="Release leases, or set LEASING_DOCKER_NETWORK_POOL to a larger range.",
                    )
                subnet = free[0]
            self._taken.add(subnet)
            return subnet

    def _forget(self, subnet: str) -> None:
        with self._lock:
            self._taken.discard(subnet)


def _subnets(client: docker.APIClient) -> set[str]:
    return {
        pool["Subnet"]
        for network in client.networks()
        for pool in (network.get("IPAM") or {}).get("Config") or []
        if "Subnet" in pool
    }


def reconnected(client: docker.APIClient, container_id: str, error: APIError) -> bool:
    """Whether a container could not start for its network, which is there anew: it knew the one before by its id."""
    said = str(error.explanation or "")
    if not LOST.search(said):
        return False
    name = client.inspect_container(container_id)["HostConfig"]["NetworkMode"]
    if not client.networks(names=[name]):
        return False
    client.disconnect_container_from_network(container_id, name, force=True)
    client.connect_container_to_network(container_id, name)
    return True
