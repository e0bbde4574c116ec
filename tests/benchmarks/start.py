"""P7: our own tax on a start. The same spec, with its network, on both sides, in interleaved rounds.

Raw is the Engine API: network create, container create, start. Ours is from POST to the notification of the commit that
says running, so that whoever waits costs the platform nothing. At 1 (paired, 30 rounds) and at 16 together (5 rounds).
"""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import docker
import httpx
from docker.types import IPAMConfig, IPAMPool

from images.catalogue import load
from leasing.database import EVENTS, Listener
from leasing.host.postgres import running_url
from tests.benchmarks._measure import said
from tests.support.stack import Stack, running, until

ROUNDS, TOGETHER_ROUNDS, TOGETHER = 30, 5, 16
IMAGE = load()["base"].reference
COMMAND = ["sleep", "600"]
MEMORY = 64 * 2**20
WAIT_SECONDS = 60.0


class Watch:
    """Which leases run, by the notifications of the commits that say so."""

    def __init__(self, url: str) -> None:
        self._listener = Listener(url, EVENTS, "leasing-benchmark")
        self._running: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def wait(self, lease: str) -> None:
        assert self._running[lease].wait(WAIT_SECONDS), f"{lease} does not run"

    def close(self) -> None:
        self._listener.stop()
        self._thread.join()

    def _listen(self) -> None:
        for payload in self._listener.payloads():
            lease, _, kind = payload.partition(":")
            if kind == "lease.running":
                self._running[lease].set()


def main() -> None:
    client = docker.APIClient(max_pool_size=64, version="auto")
    settings = {"LEASING_LIMITS_LEASES_PER_USER": "500", "LEASING_WARM_SANDBOXES": "0"}
    with running(settings) as stack, httpx.Client(base_url=f"{stack.url}/api/v1", timeout=60) as api:
        api.headers["Authorization"] = f"Bearer {stack.lease('token').stdout.strip()}"
        url = running_url(Path(stack.environment["LEASING_STATE_DIR"]))
        assert url is not None
        watch = Watch(url)
        try:
            measure(client, stack, api, watch)
        finally:
            watch.close()


def measure(client: docker.APIClient, stack: Stack, api: httpx.Client, watch: Watch) -> None:
    for _ in range(3):  # both sides warm
        raw(client, 0)
        ours(stack, api, watch)
    alone = [(raw(client, number % 250), ours(stack, api, watch)) for number in range(ROUNDS)]
    with ThreadPoolExecutor(TOGETHER) as pool:
        together = []
        for _ in range(TOGETHER_ROUNDS):
            one = timed(lambda: list(pool.map(lambda number: started(client, number), range(TOGETHER))))
            clear(client, pool)
            two = timed(lambda: list(pool.map(lambda _: asked(api, watch), range(TOGETHER))))
            empty(stack, api)
            together.append((one, two))
    added = [mine - theirs for theirs, mine in alone]
    print("P7, our tax on a start")
    print(f"  at 1   raw {said([one for one, _ in alone])}   ours {said([two for _, two in alone])}")
    print(f"         added {said(added)}; goal 25 ms: {verdict(statistics.median(added) <= 0.025)}")
    print(f"         of which {', '.join(steps(api))}")
    ratio = [two / one for one, two in together]
    print(
        f"  at {TOGETHER}  raw {said([one for one, _ in together])}   ours {said([two for _, two in together])}"
    )
    print(f"         ratio {said(ratio, 'x', 1)}; goal 1.15: {verdict(statistics.median(ratio) <= 1.15)}")


def steps(api: httpx.Client) -> list[str]:
    """Where the time of a lease that was started alone went, from one event to the next."""
    leases = api.get("/leases", params={"ended": True, "limit": 200}).json()["items"][-ROUNDS:]
    spans: defaultdict[str, list[float]] = defaultdict(list)
    for lease in leases:
        events = api.get(f"/leases/{lease['id']}/events").json()["items"]
        for one, two in pairwise(events[:4]):
            took = datetime.fromisoformat(two["at"]) - datetime.fromisoformat(one["at"])
            spans[two["kind"].removeprefix("lease.")].append(took.total_seconds())
    return [f"to {kind} {said(found)}" for kind, found in spans.items()]


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
        IMAGE, command=COMMAND, name=name, user="1000:1000", host_config=host, labels={"leasing-bench": "1"}
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


def asked(api: httpx.Client, watch: Watch) -> None:
    body = {"image": "base", "cpus": "0.1", "memory": "64M", "command": COMMAND}
    watch.wait(api.post("/leases", json=body).raise_for_status().json()["id"])


def ours(stack: Stack, api: httpx.Client, watch: Watch) -> float:
    took = timed(lambda: asked(api, watch))
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
