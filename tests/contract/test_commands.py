"""Short commands inside a container, for their outcome: Docker for real, and the engine in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from leasing.drivers.docker import DockerDriver
from leasing.drivers.protocol import Ran
from leasing.errors import ContainerGone, DriverError
from tests.support.bench import Bench, docker, opened

pytestmark = pytest.mark.xdist_group("docker")


@pytest.fixture(params=["fake", "docker"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with opened(real=request.param == "docker") as made:
        yield made


def test_what_does_not_run_is_asked_nothing(bench: Bench) -> None:
    container = bench.up(bench.facts())
    assert bench.driver.run(container.id, ["true"], seconds=10).exit_code == 0
    bench.driver.stop(container.id, grace_seconds=0)
    with pytest.raises(DriverError, match="not running"):
        bench.driver.run(container.id, ["true"], seconds=10)
    with pytest.raises(ContainerGone):
        bench.driver.run("leasing-nobody-knows-it", ["true"], seconds=10)


def test_a_real_command_tells_how_it_went() -> None:
    with opened(real=True) as bench:
        container = bench.up(bench.facts())
        ran = bench.driver.run(container.id, ["sh", "-c", "id -u; echo oh >&2; exit 3"], seconds=10)
        assert (ran.exit_code, sorted(ran.output.split())) == (3, ["1000", "oh"])
        much = bench.driver.run(container.id, ["sh", "-c", "seq 1 9999; echo last"], seconds=10)
        assert much.output.endswith("9999\nlast\n")
        assert len(much.output) <= 16 * 1024
        assert bench.driver.run(container.id, ["no-such-program"], seconds=10).exit_code in (126, 127)


def test_one_that_takes_too_long_is_cut_off() -> None:
    with opened(real=True) as bench:
        assert isinstance(bench.driver, DockerDriver)
        container = bench.up(bench.facts())
        ran = bench.driver.run(container.id, ["sh", "-c", "echo begun; exec sleep 321"], seconds=3)
        assert ran == Ran(exit_code=None, output="begun\n")
        assert "sleep 321" not in docker("top", container.id), "it is killed, not left behind"
