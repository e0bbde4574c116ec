"""P7: our own tax on a start. The same spec, with its network, on both sides, in interleaved rounds.

Raw is the Engine API: network create, container create, start. Ours is from POST to the row that says running, by a
client that asks every 5 ms. At 1 (paired, 30 rounds) and at 16 together (5 rounds).
"""

from __future__ import annotations

import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import docker
import httpx
from docker.types import IPAMConfig, IPAMPool

from tests.benchmarks._measure import said
from tests.support.images import BUSYBOX, ensure_busybox
from tests.support.stack import Stack, running, until

ROUNDS, TOGETHER_ROUNDS, TOGETHER = 30, 5, 16
COMMAND = ["sleep", "600"]
MEMORY = 64 * 2**20


def main() -> None:
    ensure_busybox()
    client = docker.APIClient(max_pool_size=64, version="auto")
    settings = {"LEASING_LIMITS_LEASES_PER_USER": "500"}
    with running(settings) as stack, httpx.Client(base_url=f"{stack.url}/api/v1", timeout=60) as api:
        api.headers["Authorization"] = f"Bearer {stack.lease('token').stdout.strip()}"
        for _ in range(3):  # both sides warm
            raw(client, 0)
            ours(stack, api)
        alone = [(raw(client, number % 250), ours(stack, api)) for number in range(ROUNDS)]
        with ThreadPoolExecutor(TOGETHER) as pool:
            together = []
            for _ in range(TOGETHER_ROUNDS):
                one = timed(lambda: list(pool.map(lambda number: started(client, number), range(TOGETHER))))
                clear(client, pool)
                two = timed(lambda: list(pool.map(lambda _: asked(api), range(TOGETHER))))
                empty(stack, api)
                together.append((one, two))
    added = [mine - theirs for theirs, mine in alone]
    print("P7, our tax on a start")
    print(f"  at 1   raw {said([one for one, _ in alone])}   ours {said([two for _, two in alone])}")
    print(f"         added {said(added)}; goal 25 ms: {verdict(statistics.median(added) <= 0.025)}")
    ratio = [two / one for one, two in together]
    print(
        f"  at {TOGETHER}  raw {said([one for one, _ in together])}   ours {said([two for _, two in together])}"
    )
    print(f"         ratio {said(ratio, 'x', 1)}; goal 1.15: {verdict(statistics.median(ratio) <= 1.15)}")


def verdict(met: bool) -> str:
    return "met" if met else "missed"


def timed(work: object) -> float:
    began = time.perf_counter()
    work()  # type: ignore[operator]  # always a lambda of this file
    return time.perf_counter() - began


def started(client: docker.APIClient, number: int) -> tuple[str, str]:
    """The same container as a lease's, by the raw API."""
    name = f"leasing-bench-{uuid.uuid4().hex[:12]}"
    pool = IPAMPool(subnet=f"10.214.{number}.0/28")
    network = client.create_network(
        name, driver="bridge", ipam=IPAMConfig(pool_configs=[pool]),
        options={"com.docker.network.bridge.enable_icc": "false"},
    )["Id"]  # fmt: skip
    host = client.create_host_config(
        network_mode=name, nano_cpus=10**8, mem_limit=MEMORY, memswap_limit=MEMORY, pids_limit=4096, init=True,
        cap_drop=["ALL"], security_opt=["no-new-privileges"],
    )  # fmt: skip
    container = client.create_container(
        BUSYBOX, command=COMMAND, name=name, user="1000:1000", host_config=host, labels={"leasing-bench": "1"}
    )["Id"]
    client.start(container)
    return container, network


def raw(client: docker.APIClient, number: int) -> float:
    began = time.perf_counter()
    container, network = started(client, number)
    took = time.perf_counter() - began
    client.remove_container(container, force=True)
    client.remove_network(network)
    return took


def clear(client: docker.APIClient, pool: ThreadPoolExecutor) -> None:
    containers = client.containers(all=True, filters={"label": "leasing-bench"})
    list(pool.map(lambda one: client.remove_container(one["Id"], force=True), containers))
    for network in client.networks(names=["leasing-bench-"]):
        client.remove_network(network["Id"])


def asked(api: httpx.Client) -> None:
    body = {"image": BUSYBOX, "cpus": "0.1", "memory": "64M", "command": COMMAND}
    name = api.post("/leases", json=body).raise_for_status().json()["name"]
    until(lambda: api.get(f"/leases/{name}").json()["state"] == "running", what=name, every=0.005)


def ours(stack: Stack, api: httpx.Client) -> float:
    took = timed(lambda: asked(api))
    empty(stack, api)
    return took


def empty(stack: Stack, api: httpx.Client) -> None:
    for lease in api.get("/leases").json()["items"]:
        api.delete(f"/leases/{lease['id']}")
    until(
        lambda: api.get("/leases").json()["items"] == [] and not stack.containers(),
        what="the end of all",
        seconds=90,
    )


if __name__ == "__main__":
    main()
