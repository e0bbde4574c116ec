"""Which GPUs a lease sees from inside: a real engine with NVIDIA's way of handing out devices, and eight fake ones."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from leasing.drivers.docker import DockerDriver
from leasing.drivers.protocol import Container, ContainerSpec
from leasing.drivers.spec import LeaseFacts, build
from leasing.errors import DriverError
from leasing.settings.docker import DockerSettings
from tests.support import gpus, hook
from tests.support.engines import SecondEngine
from tests.support.nvml import GIB, FakeNvml
from tests.support.stack import Stack, emptied, running, until

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("second-engine"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may start an engine"),
]
INSTALLATION = "9b0e5eed"
"""Nobody else is on that engine, so any will do."""
SMALL = ("--cpus", "0.1", "--memory", "64M", "--image", gpus.IMAGE)


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    return FakeNvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module")
def engine(nvml: FakeNvml) -> Iterator[SecondEngine]:
    with SecondEngine(nvml=nvml) as made:
        driver = made.driver()
        gpus.ensure_image(driver)
        driver.close()
        yield made


@pytest.fixture
def driver(engine: SecondEngine) -> Iterator[DockerDriver]:
    made = engine.driver()
    yield made
    for container in made.containers(INSTALLATION):
        made.remove(container.id, network=None)
    for network in made.networks(INSTALLATION):
        made.remove_network(network)
    made.close()


def spec(driver: DockerDriver, *uuids: str, env: dict[str, str] | None = None) -> ContainerSpec:
    facts = LeaseFacts(
        lease_id=uuid4(), name="gpus", owner="ada", installation=INSTALLATION, generation=1, image=gpus.IMAGE,
        command=("sleep", "600"), env=env or {}, cpus=0.2, memory_bytes=2**26, shm_bytes=None, device_uuids=uuids,
        workspace=None,
    )  # fmt: skip
    image = driver.find_image(gpus.IMAGE)
    assert image is not None
    return build(facts, image, DockerSettings())


def seen(driver: DockerDriver, container: Container) -> list[str]:
    """The UUIDs that NVML shows inside the container."""
    stream = driver.exec(container.id, gpus.SHOW, tty=False)
    try:
        return b"".join(iter(stream.read, b"")).decode().split("\n")[:-1]
    finally:
        stream.close()


def test_a_container_sees_exactly_its_two_of_eight(driver: DockerDriver, nvml: FakeNvml) -> None:
    granted = (nvml.uuids[2], nvml.uuids[5])
    container = driver.start(driver.create(spec(driver, *granted)).id)
    assert seen(driver, container) == list(granted)


def test_a_variable_of_the_user_s_gets_no_more_than_was_granted(driver: DockerDriver, nvml: FakeNvml) -> None:
    """The api refuses it before; this is the second lock, should a request come another way."""
    granted = nvml.uuids[0]
    container = driver.start(driver.create(spec(driver, granted, env={"NVIDIA_VISIBLE_DEVICES": "all"})).id)
    assert seen(driver, container) == [granted]


def test_no_gpu_asked_means_none_seen_whatever_the_user_sets(driver: DockerDriver) -> None:
    wanted = spec(driver, env={"NVIDIA_VISIBLE_DEVICES": "all"})
    assert wanted.environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    container = driver.start(driver.create(wanted).id)
    assert seen(driver, container) == ["no NVML"]


def test_a_restarted_container_sees_the_same_two(
    driver: DockerDriver, engine: SecondEngine, nvml: FakeNvml
) -> None:
    granted = (nvml.uuids[6], nvml.uuids[7])
    container = driver.start(driver.create(spec(driver, *granted)).id)
    engine.stop()
    engine.start()
    assert seen(driver, driver.start(container.id)) == list(granted)


def test_an_unknown_device_fails_in_clear_words_and_leaves_nothing(driver: DockerDriver) -> None:
    wanted = spec(driver, "GPU-99999999-aaaa")
    container = driver.create(wanted)
    with pytest.raises(DriverError, match="knows no device GPU-99999999-aaaa"):
        driver.start(container.id)
    found = driver.inspect(container.id)
    assert found is not None
    assert not found.running
    driver.remove(container.id, network=wanted.network)
    assert driver.containers(INSTALLATION) == []
    assert driver.networks(INSTALLATION) == []


@pytest.fixture(scope="module")
def platform(engine: SecondEngine, nvml: FakeNvml) -> Iterator[Stack]:
    """A platform on that engine, whose sampler sees the same eight devices."""
    quick = {
        "LEASING_LIMITS_DEVICES_PER_USER": "16",
        "LEASING_HANDOVER_PATIENCE_SECONDS": "2",
        "LEASING_DEVICE_MEMORY_WARN_SECONDS": "1",
        "LEASING_DEVICE_MEMORY_STOP_SECONDS": "3",
    }
    with running(engine.environment | nvml.environment() | quick) as made:
        until(
            lambda: len(made.json("admin", "devices", "ls")["items"]) == 8, what="the sampler's first report"
        )
        yield made


@pytest.fixture
def stack(platform: Stack) -> Iterator[Stack]:
    """Nobody has anything there before or after."""
    yield from emptied(platform)


def test_leases_of_the_platform_see_exactly_their_own(stack: Stack, engine: SecondEngine) -> None:
    granted: dict[str, list[str]] = {}
    for name, count in (("pair", 2), ("rest", 6)):
        stack.lease("up", name, "--gpu", str(count), *SMALL, "--", "sleep", "600")
        granted[name] = sorted(device["uuid"] for device in stack.json("show", name)["devices"])
        assert len(granted[name]) == count
    assert not set(granted["pair"]) & set(granted["rest"])
    for name, uuids in granted.items():
        assert sorted(stack.lease("exec", name, "--", *gpus.SHOW).stdout.split()) == uuids
    stack.lease("release", "pair")
    until(lambda: stack.state("pair") == "ended", what="the end")
    assert len(engine.leases()) == 1


def test_leases_that_share_a_device_both_see_it_and_no_other(stack: Stack) -> None:
    held = {}
    for name, ask in (("half", "0.5"), ("other", "0.5"), ("third", "0.5")):
        stack.lease("up", name, "--gpu", ask, *SMALL, "--", "sleep", "600")
        (device,) = stack.json("show", name)["devices"]
        held[name] = device["uuid"]
        assert device["share"] == 500
        assert stack.lease("exec", name, "--", *gpus.SHOW).stdout.split() == [device["uuid"]]
    assert held["half"] == held["other"] != held["third"]
    assert "0.5 of one NVIDIA A100" in stack.lease("offers").stdout
    stack.lease("up", "all", "--gpu", "8", "--detach", *SMALL, "--", "sleep", "600")
    until(lambda: "it would start now with --gpu 6" in stack.lease("why", "all").stdout, what="advice")
    stack.lease("release", "all")


def test_a_container_that_lost_its_device_is_told_of_and_sees_it_again_once_restarted(
    stack: Stack, engine: SecondEngine
) -> None:
    stack.lease("up", "blind", "--gpu", "1", *SMALL, "--", "sh", "-c", "echo begun >> ~/begun; sleep 600")
    (device,) = stack.json("show", "blind")["devices"]
    container = engine.docker("ps", "-q", "--filter", "label=leasing.name=blind").strip()
    engine.docker("exec", "-u", "0", container, "rm", f"{hook.INSIDE}/nvml.state")
    until(lambda: stack.json("show", "blind")["device_fault"], what="somebody notices", seconds=60)
    assert "lease restart blind" in stack.lease("show", "blind").stdout
    assert stack.json("show", "blind")["state"] == "running", "what it computes goes on"
    stack.lease("restart", "blind")
    assert stack.lease("exec", "blind", "--", "nvidia-smi", "-L").stdout.split() == [device["uuid"]]
    assert stack.lease("exec", "blind", "--", "sh", "-c", "cat ~/begun").stdout.split() == ["begun", "begun"]
    assert stack.json("show", "blind")["device_fault"] is None
    stack.lease("release", "blind")


def test_a_device_waits_until_nothing_of_the_last_lease_is_on_it(stack: Stack, nvml: FakeNvml) -> None:
    """A process of the machine's own stands for what a lease may leave behind: only the engine's word ends it."""
    stack.lease("up", "first", "--gpu", "8", *SMALL, "--", "sleep", "600")
    uuid = nvml.uuids[3]
    with subprocess.Popen(["sleep", "600"]) as left:
        try:
            nvml.change(uuid, processes=((left.pid, 2**30),))
            stack.lease("release", "first")
            stack.lease("up", "second", "--gpu", "8", "--detach", *SMALL, "--", "sleep", "600")
            reason = f"process {left.pid} (sleep) is still on it"
            until(lambda: reason in stack.lease("why", "second").stdout, what="the reason")
            until(lambda: device(stack, uuid)["state"] == "quarantined", what="quarantine")
            assert device(stack, uuid)["state_reason"] == reason
            assert f"quarantined  {reason}" in stack.lease("admin", "devices", "ls").stdout
            assert stack.state("second") == "queued"
        finally:
            nvml.change(uuid, processes=())
            left.kill()
    until(lambda: stack.state("second") == "running", what="the second lease")
    stack.lease("release", "second")


def test_who_takes_more_than_their_part_is_warned_and_stopped_whoever_started_it(
    stack: Stack, engine: SecondEngine, nvml: FakeNvml
) -> None:
    """The process came by the engine's own exec, which the platform knows nothing of; its cgroup is the container's."""
    for name in ("fair", "greedy"):
        stack.lease("up", name, "--gpu", "20GB", *SMALL, "--", "sleep", "600")
    (held,) = stack.json("show", "greedy")["devices"]
    container = engine.docker("ps", "-q", "--filter", "label=leasing.name=greedy").strip()
    engine.docker("exec", "-d", container, "sleep", "500")

    def started() -> int | None:  # a detached exec answers before its program runs
        listed = engine.docker("top", container, "-o", "pid,args").splitlines()
        return next((int(line.split()[0]) for line in listed if line.endswith("sleep 500")), None)

    pid = until(started, what="the process that nobody asked the platform for")
    try:
        nvml.change(held["uuid"], processes=((pid, 30 * GIB),))
        until(lambda: "uses 30G of GPU" in stack.lease("events", "greedy").stdout, what="the warning")
        until(lambda: stack.state("greedy") == "ended", what="the end")
    finally:
        nvml.change(held["uuid"], processes=())
    ended = stack.json("show", "greedy")
    assert ended["reason"] == "failed"
    assert "its part is 20G" in ended["message"]
    assert "--gpu 30GB" in ended["message"]
    assert stack.state("fair") == "running"


def device(stack: Stack, uuid: str) -> dict[str, Any]:
    listed: list[dict[str, Any]] = stack.json("admin", "devices", "ls")["items"]
    return next(one for one in listed if one["uuid"] == uuid)
