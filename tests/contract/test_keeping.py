"""A stopped container's files go on in another: Docker for real, and the engine in memory, must answer alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from leasing.drivers.fake import FakeDriver
from leasing.errors import ContainerGone
from tests.support.bench import Bench, docker, network_of, opened, output
from tests.support.images import BUSYBOX

pytestmark = pytest.mark.xdist_group("docker")


@pytest.fixture(params=["fake", "docker"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with opened(real=request.param == "docker") as made:
        yield made


def test_a_stopped_container_goes_on_as_another(bench: Bench) -> None:
    """Its files come along; it has the same command and variables, and none of its values is in the image."""
    facts = bench.facts(env={"TOKEN": "s3cret"}, workspace=f"leasing-{bench.installation}-ws-4")
    first = bench.up(facts)
    bench.driver.write_file(first.id, "/run/lease/made", b"work")
    bench.driver.stop(first.id, grace_seconds=0)
    bench.driver.remove_network(network_of(bench, first))
    assert bench.driver.networks(bench.installation) == []
    tag = f"leasing/kept-{bench.installation}-contract:2"
    labels = {"leasing.installation": bench.installation, "leasing.role": "kept"}
    kept = bench.driver.commit(first.name, tag=tag, labels=labels)
    try:
        assert kept == bench.driver.commit(first.name, tag=tag, labels=labels) == bench.driver.find_image(tag)
        assert kept.kept_by(bench.installation)
        assert not kept.kept_by("another")
        second = bench.up(replace(facts, generation=2, image=tag, follows=first.name))
        assert second.running
        assert first.labels.items() <= second.labels.items()
        bench.driver.remove(first.name, network=None)
        assert bench.driver.commit(first.name, tag=tag, labels=labels) == kept, "it is there already"
        assert bench.driver.remove_image(tag) is False, "a container runs from it"
        if isinstance(bench.driver, FakeDriver):
            assert bench.driver.file(second.id, "/run/lease/made") == b"work"
            assert bench.driver.spec(second.id).environment["TOKEN"] == "s3cret"
        else:
            script = "cat /run/lease/made; echo $TOKEN; tr '\\0' ' ' < /proc/1/cmdline"
            _, said = output(bench, second, ["sh", "-c", script])
            assert said.startswith(b"works3cret\n")
            assert b"sleep 600" in said
            shown = docker("image", "inspect", "--format", "{{json .Config}}", tag)
            assert "s3cret" not in shown
    finally:
        for one in bench.driver.containers(bench.installation):
            bench.driver.remove(one.id, network=network_of(bench, first))
        assert bench.driver.remove_image(tag)


def test_what_is_gone_cannot_be_kept(bench: Bench) -> None:
    with pytest.raises(ContainerGone):
        bench.driver.commit("leasing-nosuch", tag=f"leasing/kept-{bench.installation}-contract:2", labels={})


@pytest.mark.parametrize("bench", ["docker"], indirect=True)
def test_what_goes_on_has_the_image_s_own_settings_and_volumes(bench: Bench, tmp_path: Path) -> None:
    """Again and again, and none of the images stays once the last is gone."""
    (tmp_path / "Dockerfile").write_text(
        f"FROM {BUSYBOX}\nENV A=image B=image\nSTOPSIGNAL SIGINT\n"
        'ENTRYPOINT ["sh", "-c"]\nCMD ["sleep 500"]\nLABEL leasing.environment=test\n'
        "RUN mkdir -p /data /home/lease /workspace && chmod 777 /data /home/lease\nVOLUME /data\nUSER 7\n"
    )
    image = bench.driver.build_image(
        tmp_path, tag=f"leasing-test/{bench.installation}:4", build_args={}, labels={}, extra_files={},
        progress=lambda _: None,
    )  # fmt: skip
    facts = bench.facts(image=image.tags[0], command=None, env={"B": "lease", "C": "s3cret"})
    labels = {"leasing.installation": bench.installation, "leasing.role": "kept"}
    last, before = bench.up(facts), None
    ids, settings = [], _settings(image.tags[0])
    try:
        for generation in (2, 3, 4):
            script = f"echo {generation} >> /data/a && echo {generation} >> /home/lease/b"
            assert output(bench, last, ["sh", "-c", script])[0] == 0
            bench.driver.stop(last.id, grace_seconds=0)
            tag = f"leasing/kept-{bench.installation}-contract:{generation}"
            ids.append(bench.driver.commit(last.name, tag=tag, labels=labels).id)
            assert settings.items() <= _settings(tag).items()
            on = bench.up(replace(facts, image=tag, generation=generation, follows=last.name))
            bench.driver.remove(last.name, network=None)
            if before is not None:
                bench.driver.remove_image(before)
                assert bench.driver.find_image(before) is None
            last, before = on, tag
        said = output(bench, last, ["sh", "-c", "cat /data/a /home/lease/b; echo $A $B $C"])
        assert said == (0, b"2\n3\n4\n2\n3\n4\nimage lease s3cret\n")
    finally:
        (volume,) = docker("inspect", "--format", "{{range .Mounts}}{{.Name}}{{end}}", last.id).split()
        for one in bench.driver.containers(bench.installation):
            bench.driver.remove(one.id, network=network_of(bench, last))
        assert bench.driver.remove_image(str(before))
        assert volume not in docker("volume", "ls", "-q")
        assert not set(ids) & set(docker("image", "ls", "-aq", "--no-trunc").split())
        assert bench.driver.remove_image(image.id)


def _settings(reference: str) -> dict[str, object]:
    """What an image says of itself that a container takes over; its variables apart from those that are empty."""
    found = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", reference))
    found["Env"] = [entry for entry in found["Env"] if not entry.endswith("=")]
    keys = ("Env", "Cmd", "Entrypoint", "StopSignal", "Volumes", "User", "WorkingDir", "OnBuild")
    return {key: found.get(key) for key in keys if found.get(key)}
