"""P5: a lease that is handed a waiting container, beside `docker run` of the same image, to the first HTTP byte.

`docker run` is the command line's own, with the same limits, in a network that is there already, at an address that is
known beforehand. The engine's part is the hand-over alone against container create and start by the raw API, in a
network that is there already too. Interleaved rounds, at 1 and at 16 together.
"""

from __future__ import annotations

import argparse
import secrets
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import uuid4

import docker
from docker.types import IPAMConfig, IPAMPool

from leasing.drivers import spec
from leasing.drivers.docker import DockerDriver
from leasing.drivers.protocol import HandOver
from leasing.drivers.spec import WarmFacts
from leasing.settings.docker import DockerSettings
from tests.benchmarks import _served
from tests.benchmarks._served import CPUS, IMAGE, MEMORY, Platform, each, together
from tests.benchmarks.cold import TOGETHER, Pairs, report

ROUNDS = 15
SUBNET, NETWORK = "10.214.255", "leasing-bench-run"
ENGINE_GOAL, WHOLE_GOAL = 1 / 15, 1 / 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    client = docker.APIClient(max_pool_size=64, version="auto")
    _served.ensure_image(client)
    print("P5, a warm lease against docker run of the same image")
    with ThreadPoolExecutor(TOGETHER) as pool:
        try:
            engine(client, pool, rounds)
            settings = {"LEASING_WARM_SANDBOXES": "0"}
            with _served.platform(settings) as ours:
                whole(client, pool, ours, rounds)
        finally:
            _served.clear(client, pool)


def shared_network(client: docker.APIClient) -> None:
    pools = [IPAMPool(subnet=f"{SUBNET}.0/24")]
    client.create_network(NETWORK, driver="bridge", ipam=IPAMConfig(pool_configs=pools))


def engine(client: docker.APIClient, pool: ThreadPoolExecutor, rounds: int) -> None:
    settings, installation = DockerSettings(), secrets.token_hex(4)
    driver = DockerDriver("", settings)
    image = driver.find_image(IMAGE)
    assert image is not None

    def waiting() -> str:
        facts = WarmFacts(
            warm_id=uuid4(), installation=installation, image=IMAGE, cpus=CPUS, memory_bytes=MEMORY
        )
        return driver.start(driver.create(spec.waiting(facts, image, settings)).id).id

    def handed(container: str) -> None:
        name = f"lease-{secrets.token_hex(4)}"
        becomes = HandOver(
            name=f"leasing-{installation}-{name}", hostname=name, command=image.command,
            environment={"LEASE_ID": str(uuid4()), "LEASE_NAME": name, "HOSTNAME": name},
        )  # fmt: skip
        driver.hand_over(container, becomes)

    def clear() -> None:
        _served.clear(client, pool)
        list(pool.map(lambda one: driver.remove(one.id, network=None), driver.containers(installation)))
        for one in driver.networks(installation):
            driver.remove_network(one)

    for count, times in ((1, rounds), (TOGETHER, max(3, rounds // 3))):
        pairs: Pairs = []
        for turn in range(times + 1):
            shared_network(client)
            theirs = together(pool, count, lambda _: _served.container(client, NETWORK))
            clear()
            made = [waiting() for _ in range(count)]
            time.sleep(0.2)  # their shells wait by then
            mine = together(pool, count, partial(each, handed, made))
            clear()
            if turn:  # the first warms both sides up
                pairs.append((theirs, mine))
        report(f"engine, {count:2}", pairs, ENGINE_GOAL)
    driver.close()


def docker_run(cpus: float, number: int) -> None:
    """As a person types it, to its first byte."""
    at = f"{SUBNET}.{10 + number}"
    subprocess.run(
        [
            *("docker", "run", "-d", "--init", "--user", "1000:1000", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges", "--cpus", str(cpus), "--memory", str(MEMORY)),
            *("--network", NETWORK, "--ip", at, "--label", "leasing-bench=1", IMAGE),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    _served.first_byte(at)


def whole(client: docker.APIClient, pool: ThreadPoolExecutor, ours: Platform, rounds: int) -> None:
    for count, times in ((1, rounds), (TOGETHER, max(3, rounds // 3))):
        pairs: Pairs = []
        cpus = _served.fitting(client, count)
        body = {"image": IMAGE, "count": count, "cpus": str(cpus), "memory": str(MEMORY)}
        ours.api.put("/warm/pools", json=body).raise_for_status()
        for turn in range(times + 1):
            shared_network(client)
            theirs = together(pool, count, partial(docker_run, cpus))
            _served.clear(client, pool)
            ours.ready("warm", count)
            mine = together(pool, count, partial(ours.served, cpus))
            ours.empty()
            if turn:
                pairs.append((theirs, mine))
        report(f"to first byte, {count:2}", pairs, WHOLE_GOAL)


if __name__ == "__main__":
    main()
