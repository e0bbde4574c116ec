"""The platform's own programs inside containers, and commands whose second output is read apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from images import tools
from leasing.drivers.protocol import Container
from leasing.drivers.spec import TOOLS
from tests.support.bench import Bench, docker, network_of, opened, output

pytestmark = pytest.mark.xdist_group("docker")


@pytest.fixture(params=["fake", "docker"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with opened(real=request.param == "docker") as made:
        yield made


@pytest.fixture
def real() -> Iterator[Bench]:
    with opened(real=True) as made:
        tools.ensure(made.driver, lambda _: None)
        yield made


def volume_of(container: Container) -> str:
    (name,) = docker("inspect", "-f", "{{range .Mounts}}{{.Name}} {{end}}", container.id).split()
    return name


def test_where_the_engine_has_no_tools_a_container_is_made_without(bench: Bench) -> None:
    assert bench.up(bench.facts(tools="leasing/nosuch:1")).running


def test_without_a_terminal_both_outputs_are_one_unless_asked_apart(bench: Bench) -> None:
    container = bench.up(bench.facts())
    aside: list[bytes] = []
    process = bench.driver.exec(
        container.id, ["sh", "-c", "cat; echo other >&2"], tty=False, aside=aside.append
    )
    process.write(b"one\n")
    process.end_input()
    said = b""
    while part := process.read():
        said += part
    process.close()
    assert said == b"one\n"
    if bench.real:
        assert b"".join(aside) == b"other\n"
        assert output(bench, container, ["sh", "-c", "echo other >&2"]) == (0, b"other\n")


@pytest.mark.docker
def test_every_image_has_them_and_no_lease_can_change_them(real: Bench) -> None:
    first, second = (real.up(real.facts(tools=tools.reference())) for _ in range(2))
    assert volume_of(first) == volume_of(second)
    assert first.volumes == second.volumes == (), "they are none of its files"
    code, said = output(real, first, [f"{TOOLS}/sshd", "-V"])
    assert (code, said[:8]) == (1, b"unknown ") or b"OpenSSH" in said, said
    script = f"touch {TOOLS}/start 2>&1; rm -r {TOOLS}/lib 2>&1; mv {TOOLS} /tmp/x 2>&1; test -e {TOOLS}/lib/libc.so.6"
    assert output(real, first, ["sh", "-c", script])[0] == 0
    assert [one.name for one in real.driver.containers(real.installation)] != []
    assert not [
        one for one in docker("ps", "-a", "--format", "{{.Names}}").split() if one.startswith("leasing-ssh-")
    ]
    assert volume_of(first) not in real.driver.volumes(real.installation), "they outlive an installation"


@pytest.mark.docker
def test_a_volume_that_was_removed_or_left_half_full_is_made_whole(real: Bench) -> None:
    """By another tag of the same image, for other tests use the volume itself."""
    reference = f"leasing/ssh:{real.installation}"
    docker("tag", tools.reference(), reference)
    try:
        container = real.up(real.facts(tools=reference))
        volume = volume_of(container)
        real.driver.remove(container.id, network=network_of(real, container))
        docker("volume", "rm", volume)  # as an admin prunes an engine
        container = real.up(real.facts(tools=reference))
        assert output(real, container, ["test", "-x", f"{TOOLS}/start"])[0] == 0
        real.driver.remove(container.id, network=network_of(real, container))
        docker("volume", "rm", volume)
        docker("volume", "create", volume)
        half = real.up(replace(real.facts(), workspace=volume))
        assert output(real, half, ["touch", "/workspace/busybox"])[0] == 0
        real.driver.remove(half.id, network=network_of(real, half))
        container = real.up(real.facts(tools=reference))
        assert docker("inspect", "-f", "{{len .Mounts}}", container.id).strip() == "0", "not a broken one"
        real.driver.remove(container.id, network=network_of(real, container))
        container = real.up(real.facts(tools=reference))
        assert output(real, container, ["test", "-x", f"{TOOLS}/start"])[0] == 0
        real.driver.remove(container.id, network=network_of(real, container))
        docker("volume", "rm", volume)
    finally:
        docker("rmi", reference)
