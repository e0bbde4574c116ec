"""Building environments on the real engine."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import build, smoke
from images.catalogue import Environment, load
from leasing.drivers.docker import DockerDriver
from leasing.errors import DriverError
from leasing.settings.docker import DockerSettings
from tests.support.images import BUSYBOX, ensure_busybox

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]

DOCKERFILE = """
FROM {busybox} AS made
ARG STAGE
LABEL leasing.stage=${{STAGE}}
COPY . /tmp/build/
RUN {command}
FROM scratch
COPY --from=made /made /made
COPY --from=made /bin /bin
"""


@pytest.fixture
def driver() -> Iterator[DockerDriver]:
    ensure_busybox()
    made = DockerDriver("", DockerSettings())
    yield made
    made.close()


@pytest.fixture
def environment(tmp_path: Path, driver: DockerDriver) -> Iterator[Environment]:
    """One of this test's own, built in a second once its Dockerfile is written."""
    made = Environment(
        name=f"test-{secrets.token_hex(4)}",
        title="T",
        description="D",
        folder=tmp_path,
        parent="base",
        port=None,
        smoke="test -s /made",
    )
    yield made
    driver.remove_image(made.reference)


def write(environment: Environment, command: str) -> None:
    (environment.folder / "Dockerfile").write_text(DOCKERFILE.format(busybox=BUSYBOX, command=command))


def stages(driver: DockerDriver) -> set[str]:
    return {image.id for image in driver.images() if build.STAGE in image.labels}


def test_an_environment_is_built_once_with_its_steps_told(
    driver: DockerDriver, environment: Environment
) -> None:
    write(environment, "cat /tmp/build/apt.conf /tmp/build/pip.conf > /made")
    said: list[str] = []
    built = build.ensure(driver, environment, said.append)
    assert environment.reference in built.tags
    assert any("RUN cat" in line for line in said), said

    said.clear()
    assert build.ensure(driver, environment, said.append).id == built.id
    assert said == []
    smoke.check(driver, environment, DockerSettings())


def test_nothing_that_the_machine_lends_stays_in_the_image(
    driver: DockerDriver, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://user:pa55word@proxy.corp.example:3128")
    write(environment, 'echo "$http_proxy" | grep -q pa55word && echo reached > /made')
    before = stages(driver)
    build.ensure(driver, environment, lambda _: None)
    assert stages(driver) == before, "the first stage is gone from the engine"

    kept = subprocess.check_output(["docker", "save", environment.reference])
    assert b"reached" in kept, "the proxy was there during the build"
    assert b"pa55word" not in kept
    assert b"Dir::Etc" not in kept
    assert b"BEGIN CERTIFICATE" not in kept


def test_a_build_that_fails_says_which_step_and_leaves_no_image(
    driver: DockerDriver, environment: Environment
) -> None:
    write(environment, "echo no space for joy >&2; exit 7")
    before = {image.id for image in driver.images()}
    with pytest.raises(DriverError, match="no space for joy"):
        build.ensure(driver, environment, lambda _: None)
    assert driver.find_image(environment.reference) is None
    assert not {image.id for image in driver.images() if not image.tags} - before, "nor its first stage"


def test_a_broken_environment_is_told_and_its_container_removed(
    driver: DockerDriver, environment: Environment
) -> None:
    write(environment, "touch /made; echo made empty")
    build.ensure(driver, environment, lambda _: None)
    before = containers()
    with pytest.raises(DriverError, match=f"{environment.name} is broken"):
        smoke.check(driver, environment, DockerSettings())
    assert containers() == before


def test_an_environment_that_is_not_built_cannot_be_tried(
    driver: DockerDriver, environment: Environment
) -> None:
    with pytest.raises(DriverError, match="not built"):
        smoke.check(driver, environment, DockerSettings())


def test_base_is_lean_and_keeps_its_promises(driver: DockerDriver) -> None:
    base = load()["base"]
    image = build.ensure(driver, base, lambda _: None)
    smoke.check(driver, base, DockerSettings())
    assert image.size_bytes < 300 * 1024**2

    facts = json.loads(subprocess.check_output(["docker", "image", "inspect", base.reference]))[0]
    assert facts["Config"]["User"] == "lease"
    assert facts["Config"]["WorkingDir"] == "/workspace"
    assert facts["Config"]["Cmd"] == ["sleep", "infinity"]
    assert facts["Config"]["Labels"] == {"leasing.environment": "base"}
    asked = "id -u; id -g; stat -c %u:%g ~ /workspace; ls -A /tmp | wc -l"
    said = subprocess.check_output(
        ["docker", "run", "--rm", "--network", "none", base.reference, "sh", "-c", asked], text=True
    )
    assert said.split() == ["1000", "1000", "1000:1000", "1000:1000", "0"]


def containers() -> set[str]:
    """Those of smoke tests, whoever runs them."""
    listed = subprocess.check_output(
        ["docker", "ps", "-a", "--filter", "label=leasing.owner=smoke", "-q"], text=True
    )
    return set(listed.split())
