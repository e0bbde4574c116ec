"""One suite for every driver: Docker for real, and the engine in memory, must answer alike."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from leasing.drivers.docker import DockerDriver
from leasing.drivers.fake import FakeDriver
from leasing.drivers.protocol import Container, Driver
from leasing.drivers.spec import LeaseFacts, build
from leasing.errors import ContainerGone, DriverError, ImageNotFound
from leasing.settings.docker import DockerSettings
from tests.support.images import BUSYBOX, ensure_busybox

pytestmark = pytest.mark.xdist_group("docker")


@dataclass
class Bench:
    """A driver and an installation of this test's own."""

    driver: Driver
    installation: str
    real: bool

    def facts(self, **changes: object) -> LeaseFacts:
        base = LeaseFacts(
            lease_id=uuid4(), name="contract", owner="ada", installation=self.installation, generation=1,
            image=BUSYBOX, command=("sleep", "600"), env={}, cpus=0.1, memory_bytes=2**25, shm_bytes=None,
            device_uuids=(), workspace=None,
        )  # fmt: skip
        return replace(base, **changes)  # type: ignore[arg-type]  # the dataclass checks the names

    def up(self, facts: LeaseFacts) -> Container:
        image = self.driver.find_image(facts.image)
        assert image is not None
        spec = build(facts, image, DockerSettings())
        return self.driver.start(self.driver.create(spec).id)


@pytest.fixture(params=["fake", "docker"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    real = request.param == "docker"
    if real:
        ensure_busybox()
    driver: Driver = DockerDriver("", DockerSettings()) if real else FakeDriver(images=(BUSYBOX,))
    made = Bench(driver, secrets.token_hex(4), real)
    yield made
    for container in driver.containers(made.installation):
        driver.remove(container.id, network=None)
    for network in driver.networks(made.installation):
        driver.remove_network(network)
    for volume in driver.volumes(made.installation):
        driver.remove_volume(volume)
    driver.close()


def network_of(bench: Bench, container: Container) -> str:
    return container.name.rsplit("-", 1)[0]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 s"
        time.sleep(0.02)


def test_a_container_runs_stops_and_goes_with_its_network(bench: Bench) -> None:
    container = bench.up(bench.facts())
    assert container.running
    assert container.address is not None
    assert bench.driver.networks(bench.installation) == [network_of(bench, container)]

    bench.driver.stop(container.name, grace_seconds=1)
    stopped = bench.driver.inspect(container.id)
    assert stopped is not None
    assert (stopped.running, stopped.address) == (False, None)
    assert stopped.exit_code not in (None, 0)

    bench.driver.remove(container.name, network=network_of(bench, container))
    assert bench.driver.inspect(container.id) is None
    assert bench.driver.containers(bench.installation) == []
    assert bench.driver.networks(bench.installation) == []


def test_every_verb_may_be_repeated(bench: Bench) -> None:
    facts = bench.facts()
    first, second = bench.up(facts), bench.up(facts)
    assert first.id == second.id
    for _ in range(2):
        bench.driver.stop(first.id, grace_seconds=0)
    for _ in range(2):
        bench.driver.remove(first.name, network=network_of(bench, first))
    bench.driver.remove_network(network_of(bench, first))


def test_another_lease_s_container_of_that_name_is_refused(bench: Bench) -> None:
    facts = bench.facts()
    bench.up(facts)
    with pytest.raises(DriverError):
        bench.up(replace(facts, owner="eve"))
    assert [one.labels["leasing.owner"] for one in bench.driver.containers(bench.installation)] == ["ada"]


def test_only_this_installation_is_listed(bench: Bench) -> None:
    other = Bench(bench.driver, secrets.token_hex(4), bench.real)
    mine, theirs = bench.up(bench.facts()), other.up(other.facts())
    try:
        assert [one.id for one in bench.driver.containers(bench.installation)] == [mine.id]
        assert [one.id for one in bench.driver.containers(other.installation)] == [theirs.id]
    finally:
        bench.driver.remove(theirs.id, network=network_of(other, theirs))


def test_an_absent_image_leaves_nothing_behind(bench: Bench) -> None:
    image = bench.driver.find_image(BUSYBOX)
    assert image is not None
    spec = build(bench.facts(image="leasing-test/nosuch:1"), image, DockerSettings())
    with pytest.raises(ImageNotFound):
        bench.driver.create(spec)
    assert bench.driver.containers(bench.installation) == []
    until(lambda: bench.driver.networks(bench.installation) == [])
    assert bench.driver.find_image("leasing-test/nosuch:1") is None


def test_a_volume_outlives_its_container(bench: Bench) -> None:
    volume = f"leasing-{bench.installation}-ws-1"
    container = bench.up(bench.facts(workspace=volume))
    bench.driver.remove(container.id, network=network_of(bench, container))
    assert bench.driver.volumes(bench.installation) == [volume]


def test_a_file_is_written_while_it_runs(bench: Bench) -> None:
    container = bench.up(bench.facts())
    bench.driver.write_file(container.id, "/run/lease/info.json", b'{"a": 1}')
    bench.driver.write_file(container.id, "/run/lease/info.json", b'{"a": 2}')
    if bench.real:
        assert output(bench, container, ["cat", "/run/lease/info.json"]) == (0, b'{"a": 2}')


def test_a_death_is_announced_and_replayed(bench: Bench) -> None:
    since = datetime.now(UTC) - timedelta(seconds=1)
    container = bench.up(bench.facts())
    seen: list[str] = []
    following = threading.Thread(target=lambda: _collect(bench, since, seen), daemon=True)
    following.start()
    bench.driver.stop(container.id, grace_seconds=0)
    until(lambda: "die" in seen)
    assert seen[0] == "start"
    bench.driver.close()
    following.join(5)
    assert not following.is_alive()


def test_the_epoch_stays_while_the_engine_does(bench: Bench) -> None:
    assert bench.driver.epoch() == bench.driver.probe().epoch is not None


def test_what_is_gone_is_said_to_be_gone(bench: Bench) -> None:
    assert bench.driver.inspect("leasing-nosuch") is None
    with pytest.raises(ContainerGone):
        bench.driver.start("leasing-nosuch")


def test_sixteen_at_once_each_get_a_network_of_their_own(bench: Bench) -> None:
    with ThreadPoolExecutor(16) as pool:
        containers = list(pool.map(bench.up, [bench.facts() for _ in range(16)]))
    assert len({one.address for one in containers}) == 16
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda one: bench.driver.remove(one.id, network=network_of(bench, one)), containers))
    assert bench.driver.networks(bench.installation) == []


class TestDocker:
    """What only a real engine can show."""

    @pytest.fixture(params=["docker"])
    def bench(self, request: pytest.FixtureRequest) -> Iterator[Bench]:
        """The same as above, for the one engine."""
        ensure_busybox()
        driver = DockerDriver("", DockerSettings())
        made = Bench(driver, secrets.token_hex(4), real=True)
        yield made
        for container in driver.containers(made.installation):
            driver.remove(container.id, network=network_of(made, container))
        for volume in driver.volumes(made.installation):
            driver.remove_volume(volume)
        driver.close()

    def test_the_user_owns_home_and_workspace_and_nothing_more(self, bench: Bench) -> None:
        container = bench.up(bench.facts(workspace=f"leasing-{bench.installation}-ws-2"))
        script = "id -u; touch $HOME/a /workspace/b && echo wrote; touch /etc/c 2>/dev/null || echo refused"
        assert output(bench, container, ["sh", "-c", script]) == (0, b"1000\nwrote\nrefused\n")

    def test_limits_and_privileges_are_the_kernel_s(self, bench: Bench) -> None:
        container = bench.up(bench.facts())
        _, status = output(bench, container, ["cat", "/proc/self/status"])
        assert b"CapEff:\t0000000000000000" in status
        assert b"NoNewPrivs:\t1" in status

    def test_no_gpu_asked_means_none_is_seen(self, bench: Bench) -> None:
        container = bench.up(bench.facts())
        assert output(bench, container, ["sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES"]) == (0, b"void\n")

    def test_an_exit_code_comes_back(self, bench: Bench) -> None:
        container = bench.up(bench.facts())
        assert output(bench, container, ["sh", "-c", "echo out; echo err >&2; exit 7"])[0] == 7

    def test_a_device_the_engine_cannot_give_fails_in_clear_words(self, bench: Bench) -> None:
        with pytest.raises(DriverError, match="NVIDIA container toolkit"):
            bench.up(bench.facts(device_uuids=("GPU-nosuch",)))

    def test_memory_above_the_limit_is_seen_as_such(self, bench: Bench) -> None:
        hungry = ("sh", "-c", "x=$(head -c 90000000 /dev/zero | tr '\\0' x); echo ${#x}")
        container = bench.up(bench.facts(command=hungry, memory_bytes=2**24))
        until(lambda: not _inspected(bench, container).running)
        assert _inspected(bench, container).oom_killed


def output(bench: Bench, container: Container, command: list[str]) -> tuple[int, bytes]:
    stream = bench.driver.exec(container.id, command, tty=False)
    data = b""
    while part := stream.read():
        data += part
    code = stream.exit_code()
    stream.close()
    assert code is not None
    return code, data


def _inspected(bench: Bench, container: Container) -> Container:
    found = bench.driver.inspect(container.id)
    assert found is not None
    return found


def _collect(bench: Bench, since: datetime, seen: list[str]) -> None:
    seen.extend(event.action for event in bench.driver.events(bench.installation, since=since))
