"""P6: a cold start that joins a network made in advance, beside one that makes its own. Image present on both sides.

The engine's part is what the driver asks of the engine for a start in a sandbox, against network create, container
create and start of the same container by the raw API. The whole is POST to the first HTTP byte through the gateway,
against the same by hand to the first byte from its address. Interleaved rounds, at 1 and at 16 together.
"""

from __future__ import annotations

import argparse
import itertools
import secrets
import statistics
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import uuid4

import docker

from leasing import names
from leasing.drivers.docker import DockerDriver
from leasing.drivers.spec import LeaseFacts, build
from leasing.settings.docker import DockerSettings
from tests.benchmarks import _served
from tests.benchmarks._measure import said
from tests.benchmarks._served import CPUS, IMAGE, MEMORY, Platform, each, together
from tests.benchmarks.start import verdict

ROUNDS, TOGETHER = 15, 16
ENGINE_GOAL, WHOLE_GOAL = 0.45, 0.60
Pairs = list[tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    client = docker.APIClient(max_pool_size=64, version="auto")
    _served.ensure_image(client)
    print("P6, a cold start: ours with a sandbox, by hand with a network of its own")
    with ThreadPoolExecutor(TOGETHER) as pool:
        try:
            engine(client, pool, rounds)
            with _served.platform({"LEASING_WARM_SANDBOXES": str(TOGETHER)}) as ours:
                whole(client, pool, ours, rounds)
        finally:
            _served.clear(client, pool)


def engine(client: docker.APIClient, pool: ThreadPoolExecutor, rounds: int) -> None:
    settings, installation = DockerSettings(), secrets.token_hex(4)
    driver = DockerDriver("", settings)
    image = driver.find_image(IMAGE)
    assert image is not None
    number = itertools.count()

    def by_hand(_: int) -> None:
        _served.container(client, _served.network(client, next(number)))

    def sandbox(_: int) -> str:
        key = uuid4()
        labels = {"leasing.installation": installation, "leasing.role": "sandbox"}
        return driver.sandbox(names.warm(installation, key), names.bridge(key), labels).name

    def joined(name: str) -> None:
        facts = LeaseFacts(
            lease_id=uuid4(), name="bench", owner="ada", installation=installation, generation=1, image=IMAGE,
            command=None, env={}, cpus=CPUS, memory_bytes=MEMORY, shm_bytes=None, device_uuids=(), workspace=None,
            sandbox=name,
        )  # fmt: skip
        driver.start(driver.create(build(facts, image, settings)).id)

    def clear() -> None:
        _served.clear(client, pool)
        made = [one.name for one in driver.containers(installation)]
        list(pool.map(lambda name: driver.remove(name, network=name if "-warm-" in name else None), made))

    for count, times in ((1, rounds), (TOGETHER, max(3, rounds // 3))):
        pairs: Pairs = []
        for turn in range(times + 1):
            theirs = together(pool, count, by_hand)
            clear()
            made = [sandbox(one) for one in range(count)]
            mine = together(pool, count, partial(each, joined, made))
            clear()
            if turn:  # the first warms both sides up
                pairs.append((theirs, mine))
        report(f"engine, {count:2}", pairs, ENGINE_GOAL)
    driver.close()


def whole(client: docker.APIClient, pool: ThreadPoolExecutor, ours: Platform, rounds: int) -> None:
    number = itertools.count()

    def by_hand(cpus: float, _: int) -> None:
        made = _served.container(client, _served.network(client, next(number)), cpus)
        _served.first_byte(_served.address(client, made))

    for count, times in ((1, rounds), (TOGETHER, max(3, rounds // 3))):
        pairs: Pairs = []
        cpus = _served.fitting(client, count)
        for turn in range(times + 1):
            theirs = together(pool, count, partial(by_hand, cpus))
            _served.clear(client, pool)
            ours.ready("sandbox", count)
            mine = together(pool, count, partial(ours.served, cpus))
            ours.empty()
            if turn:
                pairs.append((theirs, mine))
        report(f"to first byte, {count:2}", pairs, WHOLE_GOAL)


def report(what: str, pairs: Pairs, goal: float) -> None:
    """By hand, ours, and the ratio of each pair."""
    ratios = [mine / theirs for theirs, mine in pairs]
    print(f"  {what}: by hand {said([one for one, _ in pairs])}   ours {said([two for _, two in pairs])}")
    print(
        f"      ratio {said(ratios, 'x', 1)}; goal {goal:.3f}: {verdict(statistics.median(ratios) <= goal)}"
    )


if __name__ == "__main__":
    main()
