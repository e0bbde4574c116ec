"""Sandboxes and waiting containers: Docker for real, and the engine in memory, must answer alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID, uuid4

import docker
import pytest

from leasing import names
from leasing.drivers.docker import handover
from leasing.drivers.fake import FakeDriver
from leasing.drivers.protocol import Container, HandOver
from leasing.drivers.spec import WarmFacts, build, waiting
from leasing.errors import ContainerGone, DriverError
from leasing.settings.docker import DockerSettings
from tests.support.bench import Bench, opened, output
from tests.support.images import BUSYBOX
from tests.support.stack import until

pytestmark = pytest.mark.xdist_group("docker")
SAYS = ("sh", "-c", 'echo "$LEASE_NAME,$A"; cat; hostname; exit 3')


@pytest.fixture(params=["fake", "docker"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with opened(real=request.param == "docker") as made:
        yield made


def sandbox(bench: Bench, key: UUID) -> Container:
    labels = {"leasing.installation": bench.installation, "leasing.role": "sandbox"}
    return bench.driver.sandbox(names.warm(bench.installation, key), names.bridge(key), labels)


def warm(bench: Bench) -> Container:
    image = bench.driver.find_image(BUSYBOX)
    assert image is not None
    facts = WarmFacts(
        warm_id=uuid4(), installation=bench.installation, image=BUSYBOX, cpus=0.2, memory_bytes=2**26
    )
    return bench.driver.start(bench.driver.create(waiting(facts, image, DockerSettings())).id)


def becomes(name: str = "train") -> HandOver:
    environment = {"LEASE_NAME": name, "A": 'it\'s "a\\nb"\n%s $HOME \\ \\c'}
    return HandOver(
        name=f"leasing-{name}-1", hostname=name, command=[*SAYS, "a b", "it's"], environment=environment
    )


def test_a_lease_joins_a_sandbox_and_is_called_by_its_own_name(bench: Bench) -> None:
    key = uuid4()
    made = sandbox(bench, key)
    assert made.running
    assert sandbox(bench, key).id == made.id, "found, not made again"
    lease = bench.up(replace(bench.facts(), sandbox=made.name))
    assert lease.address == made.address
    found = bench.driver.inspect(lease.id)
    assert found is not None
    assert found.address == made.address
    assert bench.driver.networks(bench.installation) == [made.name], "it has no network of its own"
    if not isinstance(bench.driver, FakeDriver) and os.geteuid() == 0:
        name = lease.labels["leasing.name"]
        code, said = output(bench, lease, ["sh", "-c", "hostname; cat /etc/hostname; echo $HOSTNAME"])
        assert (code, said.decode().split()) == (0, [name] * 3)
        code, said = output(bench, lease, ["grep", "-w", name, "/etc/hosts"])
        assert said.decode().split()[:2] == [made.address, name]


def test_after_the_engine_stopped_both_they_start_together(bench: Bench) -> None:
    made = sandbox(bench, uuid4())
    facts = replace(bench.facts(), sandbox=made.name)
    lease = bench.up(facts)
    for one in (lease, made):
        bench.driver.stop(one.id, grace_seconds=0)
    again = bench.up(facts)
    assert again.id == lease.id
    assert again.running
    assert again.address is not None


def test_without_its_sandbox_it_cannot_start(bench: Bench) -> None:
    made = sandbox(bench, uuid4())
    image = bench.driver.find_image(BUSYBOX)
    assert image is not None
    bench.driver.remove(made.name, network=made.name)
    assert bench.driver.networks(bench.installation) == []
    with pytest.raises(ContainerGone):
        bench.driver.create(build(replace(bench.facts(), sandbox=made.name), image, DockerSettings()))
    assert bench.driver.containers(bench.installation) == []


def test_a_waiting_container_becomes_a_lease_s(bench: Bench) -> None:
    """Its command runs with its own variables and name, without input; exit code and output are its own."""
    made = warm(bench)
    assert made.running
    lease = bench.driver.hand_over(made.id, becomes())
    assert (lease.id, lease.name, lease.address) == (made.id, "leasing-train-1", made.address)
    if isinstance(bench.driver, FakeDriver):
        assert [one.command for one in bench.driver.handed(made.id)] == [becomes().command]
        return

    def ended() -> Container | None:
        found = bench.driver.inspect("leasing-train-1")
        return found if found is not None and not found.running else None

    assert until(ended).exit_code == 3
    said = bench.driver.tail(made.id, 20)
    assert said == f"train,{becomes().environment['A']}\ntrain\n"


def test_it_is_handed_over_once_however_often_that_is_said(bench: Bench) -> None:
    made = warm(bench)
    once = replace(becomes(), command=["sh", "-c", "echo once; sleep 600"])
    for _ in range(3):
        assert bench.driver.hand_over(made.id, once).running
    if not isinstance(bench.driver, FakeDriver):
        assert until(lambda: bench.driver.tail(made.id, 20)) == "once\n"


def test_what_a_sender_left_half_said_does_no_harm(bench: Bench) -> None:
    if isinstance(bench.driver, FakeDriver):
        pytest.skip("nothing is sent there")
    made = warm(bench)
    client = docker.APIClient(version="auto")
    handover.tell(client, made.id, b"\ngo echo half; exec sh -c 'echo")
    client.close()
    bench.driver.hand_over(made.id, replace(becomes(), command=["echo", "whole"]))
    assert until(lambda: bench.driver.tail(made.id, 20)) == "whole\n"


def test_one_that_was_stopped_with_its_engine_is_started_for_it(bench: Bench) -> None:
    made = warm(bench)
    bench.driver.hand_over(made.id, replace(becomes(), command=["sleep", "600"]))
    bench.driver.stop(made.id, grace_seconds=0)
    again = bench.driver.hand_over("leasing-train-1", replace(becomes(), command=["sleep", "601"]))
    assert again.running
    if not isinstance(bench.driver, FakeDriver):
        until(lambda: b"sleep 601" in output(bench, again, ["ps"])[1])


def test_what_is_gone_cannot_be_handed_over(bench: Bench) -> None:
    with pytest.raises(DriverError):
        bench.driver.hand_over("leasing-nobody", becomes())
