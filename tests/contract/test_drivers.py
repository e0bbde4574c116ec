"""One suite for every driver: Docker for real, and the engine in memory, must answer alike."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from leasing.drivers.docker import DockerDriver
from leasing.drivers.fake import FakeDriver
from leasing.drivers.protocol import Container, RegistryLogin
from leasing.drivers.spec import build
from leasing.errors import ContainerGone, DriverError, HostError, ImageNotFound
from leasing.settings.docker import DockerSettings
from tests.support.bench import Bench, docker, network_of, opened, output, until
from tests.support.images import BUSYBOX
from tests.support.registry import serving

pytestmark = pytest.mark.xdist_group("docker")


@pytest.fixture(params=["fake", "docker"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with opened(real=request.param == "docker") as made:
        yield made


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


def test_one_whose_network_was_lost_starts_again_with_its_files(bench: Bench) -> None:
    """As after an admin took away what kept an engine from starting: all its networks are gone with it."""
    facts = bench.facts()
    made = bench.up(facts)
    bench.driver.write_file(made.id, "/tmp/kept", b"weights")
    bench.driver.stop(made.id, grace_seconds=0)
    bench.driver.remove_network(network_of(bench, made))
    again = bench.up(facts)
    assert (again.id, again.running) == (made.id, True)
    if bench.real:
        assert bench.driver.run(made.id, ["cat", "/tmp/kept"], seconds=10).output == "weights"


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


def test_output_is_followed_to_its_end(bench: Bench) -> None:
    container = bench.up(bench.facts(command=("sh", "-c", "echo one; sleep 0.5; echo two")))
    if isinstance(bench.driver, FakeDriver):
        bench.driver.say(container.id, b"one\n")
        bench.driver.say(container.id, b"two\n")
        bench.driver.exit(container.id, 0)
    assert b"".join(bench.driver.logs(container.id, follow=True, tail=None)) == b"one\ntwo\n"
    assert b"".join(bench.driver.logs(container.id, follow=False, tail=1)) == b"two\n"
    assert bench.driver.tail(container.id, 1) == "two\n"


def test_following_a_quiet_container_ends_when_it_is_closed(bench: Bench) -> None:
    container = bench.up(bench.facts())
    stream = bench.driver.logs(container.id, follow=True, tail=None)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.extend(stream), daemon=True)
    reader.start()
    reader.join(0.2)
    assert reader.is_alive()
    stream.close()
    reader.join(5)
    assert not reader.is_alive()
    assert read == []


def test_output_that_ends_while_it_is_being_closed_takes_nothing_from_what_comes_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = bench.up(bench.facts(command=("sh", "-c", "echo one; exec sleep 600")))
    if isinstance(bench.driver, FakeDriver):
        bench.driver.say(container.id, b"one\n")
    stream = bench.driver.logs(container.id, follow=True, tail=None)
    assert next(stream) == b"one\n"
    cut = socket.socket.shutdown

    def too_late(self: socket.socket, how: int) -> None:
        monkeypatch.undo()
        bench.driver.stop(container.name, grace_seconds=0)
        assert list(stream) == []
        cut(self, how)

    monkeypatch.setattr(socket.socket, "shutdown", too_late)
    stream.close()
    bench.driver.stop(container.name, grace_seconds=0)
    again = bench.driver.logs(container.id, follow=True, tail=None)
    assert b"".join(again) == b"one\n"


def test_a_command_inside_is_spoken_with(bench: Bench) -> None:
    container = bench.up(bench.facts())
    process = bench.driver.exec(container.id, ["cat"], tty=False)
    assert process.exit_code() is None
    process.write(b"hello")
    assert process.read() == b"hello"
    process.end_input()
    assert process.read() == b""
    until(lambda: process.exit_code() is not None)
    assert process.exit_code() == 0
    process.close()


def test_a_command_in_a_container_that_is_gone_is_refused(bench: Bench) -> None:
    with pytest.raises(ContainerGone):
        bench.driver.exec("leasing-nosuch", ["cat"], tty=False)
    with pytest.raises(ContainerGone):
        bench.driver.logs("leasing-nosuch", follow=True, tail=None)


@pytest.mark.parametrize("login", [None, ("ada", "s3cret")], ids=["public", "private"])
def test_an_image_is_pulled_with_progress(bench: Bench, login: tuple[str, str] | None) -> None:
    with serving(login) as registry:
        reference = f"{registry.host}/{bench.installation}:1"
        wanted = RegistryLogin(host=registry.host, username=login[0], secret=login[1]) if login else None
        if isinstance(bench.driver, FakeDriver):
            bench.driver.knobs.registry[reference] = wanted
        said: list[str] = []
        pulled = bench.driver.pull_image(reference, wanted, said.append)
        try:
            assert bench.driver.find_image(reference) == pulled
            assert "1 of 1 layers" in said[-1]
        finally:
            assert bench.driver.remove_image(pulled.id)
        if login:
            wrong = RegistryLogin(host=registry.host, username=login[0], secret="wrong")
            for refused in (None, wrong):
                with pytest.raises(ImageNotFound):
                    bench.driver.pull_image(reference, refused, said.append)
        with pytest.raises(ImageNotFound):
            bench.driver.pull_image(f"{registry.host}/{bench.installation}:nosuch", wanted, said.append)


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
        with opened(real=True) as made:
            yield made

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

    def test_a_terminal_is_as_large_as_told_and_hung_up_when_closed(self, bench: Bench) -> None:
        container = bench.up(bench.facts())
        terminal = bench.driver.exec(container.id, ["sh"], tty=True, columns=101, rows=37)
        terminal.write(b"stty size; sleep 500\n")
        said = b""
        while b"37 101" not in said:
            said += terminal.read()
        assert b"sleep 500" in output(bench, container, ["ps"])[1]
        terminal.close()
        until(lambda: b"sleep 500" not in output(bench, container, ["ps"])[1])

    def test_volumes_that_only_the_image_wants_go_with_the_container(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        """A named one outlives it; one without a name would stay on the disk for ever."""
        (tmp_path / "Dockerfile").write_text(f"FROM {BUSYBOX}\nVOLUME /data\n")
        image = bench.driver.build_image(
            tmp_path, tag=f"leasing-test/{bench.installation}:1", build_args={}, labels={}, extra_files={},
            progress=lambda _: None,
        )  # fmt: skip
        try:
            container = bench.up(bench.facts(image=image.tags[0]))
            format_ = "{{range .Mounts}}{{.Name}}{{end}}"
            (volume,) = docker("inspect", "--format", format_, container.id).split()
            assert volume in docker("volume", "ls", "-q")
            bench.driver.remove(container.id, network=network_of(bench, container))
            assert volume not in docker("volume", "ls", "-q")
        finally:
            assert bench.driver.remove_image(image.id)

    def test_a_folder_that_the_image_gave_to_root_is_the_user_s(self, bench: Bench, tmp_path: Path) -> None:
        """In the container itself and in a new volume, which takes on what the image has there."""
        (tmp_path / "Dockerfile").write_text(
            f"FROM {BUSYBOX}\nRUN mkdir -p /workspace /home/lease && chmod 700 /workspace /home/lease\n"
        )
        image = bench.driver.build_image(
            tmp_path, tag=f"leasing-test/{bench.installation}:2", build_args={}, labels={}, extra_files={},
            progress=lambda _: None,
        )  # fmt: skip
        try:
            for workspace in (None, f"leasing-{bench.installation}-ws-3"):
                container = bench.up(bench.facts(image=image.tags[0], workspace=workspace))
                script = "touch $HOME/a /workspace/b && stat -c %u:%g $HOME /workspace"
                assert output(bench, container, ["sh", "-c", script]) == (0, b"1000:1000\n" * 2)
                bench.driver.remove(container.id, network=network_of(bench, container))
        finally:
            assert bench.driver.remove_image(image.id)

    def test_a_build_that_fails_names_its_step_and_last_words(self, bench: Bench, tmp_path: Path) -> None:
        (tmp_path / "Dockerfile").write_text(f"FROM {BUSYBOX}\nRUN echo last words && exit 3\n")
        said: list[str] = []
        with pytest.raises(DriverError, match="Step 2/2 : RUN echo last words") as caught:
            bench.driver.build_image(
                tmp_path, tag=f"leasing-test/{bench.installation}:3", build_args={}, labels={}, extra_files={},
                progress=said.append,
            )  # fmt: skip
        assert "last words" in (caught.value.hint or "")
        assert "Step 2/2" in said[-1]

    def test_certificates_that_are_not_there_are_named_and_nothing_stays(self, bench: Bench) -> None:
        driver = DockerDriver("", DockerSettings(ca_bundle=Path("/nosuch/ca.pem")))
        try:
            with pytest.raises(HostError, match=r"/nosuch/ca\.pem"):
                Bench(driver, bench.installation, real=True).up(bench.facts())
        finally:
            driver.close()
        assert bench.driver.containers(bench.installation) == []
        assert bench.driver.networks(bench.installation) == []

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


def _inspected(bench: Bench, container: Container) -> Container:
    found = bench.driver.inspect(container.id)
    assert found is not None
    return found


def _collect(bench: Bench, since: datetime, seen: list[str]) -> None:
    seen.extend(event.action for event in bench.driver.events(bench.installation, since=since))
