"""Workspaces' volumes: Docker for real, and the engine in memory, must answer alike."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from leasing.drivers.docker import DockerDriver, loops, volumes
from leasing.drivers.docker.loops import LINKS
from leasing.drivers.docker.volumes import BY_LOOP
from leasing.drivers.fake import FakeDriver
from leasing.drivers.protocol import BUILDER, Container
from leasing.errors import DriverError, FilesGone
from tests.support.bench import Bench, docker, opened, output

pytestmark = pytest.mark.xdist_group("docker")
MIB = 1024**2
FOLDER = Path("/var/lib/docker/leasing-workspaces")


@pytest.fixture(params=["fake", "docker"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with opened(real=request.param == "docker") as made:
        if isinstance(made.driver, FakeDriver):
            made.driver.archived = [b"piece"]
        yield made


@pytest.fixture
def hard() -> Iterator[Bench]:
    """This machine's engine, where it can hold volumes to a size by loop devices."""
    with opened(real=True) as made:
        if made.driver.probe().disk_quota != BY_LOOP:
            pytest.skip("no loop devices here, or no right to them")
        yield made
    assert devices(made) == []


def name_of(bench: Bench, last: str = "00000000000a") -> str:
    return f"leasing-{bench.installation}-ws-{last}"


def devices(bench: Bench) -> list[str]:
    """Loop devices of this installation's volumes."""
    said = subprocess.check_output(
        ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"], text=True
    )
    return [line.split()[0] for line in said.splitlines() if bench.installation in line]


def use(bench: Bench, volume: str, **facts: object) -> Container:
    return bench.up(bench.facts(workspace=volume, **facts))


def restart_machine(bench: Bench) -> None:
    """What memory held is gone: loop devices, and the links to them."""
    for device in devices(bench):
        subprocess.run(["losetup", "--detach", device], check=True)
    for link in LINKS.glob(f"leasing-{bench.installation}-*"):
        link.unlink()


def test_a_volume_is_made_once_and_goes_when_nobody_has_it(bench: Bench) -> None:
    volume = name_of(bench)
    for _ in range(2):
        assert not bench.driver.ensure_volume(volume, installation=bench.installation, size_bytes=None)
    assert bench.driver.volumes(bench.installation) == [volume]
    assert bench.driver.volumes("0badcafe") == []
    container = use(bench, volume)
    with pytest.raises(DriverError, match="in use"):
        bench.driver.remove_volume(volume)
    bench.driver.remove(container.id, network=None)
    for _ in range(2):
        bench.driver.remove_volume(volume)
    assert bench.driver.volumes(bench.installation) == []


def test_a_volume_that_was_in_use_is_not_made_anew(bench: Bench) -> None:
    volume = name_of(bench)
    with pytest.raises(DriverError, match="not on its node any more"):
        bench.driver.ensure_volume(volume, installation=bench.installation, size_bytes=None, anew=False)
    assert bench.driver.volumes(bench.installation) == []
    for anew in (True, False):
        bench.driver.ensure_volume(volume, installation=bench.installation, size_bytes=None, anew=anew)
    bench.driver.remove_volume(volume)


def test_an_archive_has_its_helper_until_it_is_closed(bench: Bench) -> None:
    volume, helper = name_of(bench), f"leasing-{bench.installation}-export-1"
    with pytest.raises(FilesGone):
        bench.driver.archive(volume, name=helper, installation=bench.installation)
    assert bench.driver.volumes(bench.installation) == []
    bench.driver.ensure_volume(volume, installation=bench.installation, size_bytes=None)
    archive = bench.driver.archive(volume, name=helper, installation=bench.installation)
    found = bench.driver.containers(bench.installation)
    assert [(one.name, one.running, one.labels["leasing.role"]) for one in found] == [
        (helper, False, BUILDER)
    ]
    assert b"".join(archive)
    for _ in range(2):
        archive.close()
    assert bench.driver.containers(bench.installation) == []


def test_a_helper_that_was_left_behind_is_removed_like_any_container(bench: Bench) -> None:
    volume, helper = name_of(bench), f"leasing-{bench.installation}-export-1"
    bench.driver.ensure_volume(volume, installation=bench.installation, size_bytes=None)
    archive = bench.driver.archive(volume, name=helper, installation=bench.installation)
    next(archive)
    archive.close()
    bench.driver.archive(volume, name=helper, installation=bench.installation)
    bench.driver.remove(helper, network=None)
    assert bench.driver.containers(bench.installation) == []


def test_hostile_contents_are_only_data() -> None:
    with opened(real=True) as bench:
        volume = name_of(bench)
        bench.driver.ensure_volume(volume, installation=bench.installation, size_bytes=None)
        container = use(bench, volume)
        script = r"""cd /workspace; ln -s / root; ln -s ../../../etc/shadow s; mkdir -p ..x 'a b'; echo hi > '..x/-rf';
            printf x > "$(printf 'new\nline\033[31m')"; truncate -s 8M sparse; ls"""
        code, _ = output(bench, container, ["sh", "-c", script])
        assert code == 0
        archive = bench.driver.archive(volume, name="x" + bench.installation, installation=bench.installation)
        data = io.BytesIO(b"".join(archive))
        archive.close()
        with tarfile.open(fileobj=data) as tar:
            members = {member.name: member for member in tar}
            assert members["workspace/root"].linkname == "/"
            assert members["workspace/s"].linkname == "../../../etc/shadow"
            assert tar.extractfile("workspace/..x/-rf").read() == b"hi\n"  # type: ignore[union-attr]  # it is a file
            assert members["workspace/new\nline\x1b[31m"].size == 1
            assert members["workspace/sparse"].size == 8 * MIB
            assert not any(name.startswith(("/", "..")) for name in members)
            assert {member.uid for member in members.values()} == {1000}


def test_the_end_of_a_stream_that_nobody_reads_leaves_nothing() -> None:
    with opened(real=True) as bench:
        volume, helper = name_of(bench), f"leasing-{bench.installation}-export-1"
        bench.driver.ensure_volume(volume, installation=bench.installation, size_bytes=None)
        container = use(bench, volume)
        assert output(bench, container, ["truncate", "-s", "300M", "/workspace/big"])[0] == 0
        archive = bench.driver.archive(volume, name=helper, installation=bench.installation)
        assert next(archive)
        archive.close()
        assert [one.id for one in bench.driver.containers(bench.installation)] == [container.id]
        assert bench.driver.volume_sizes([volume])[volume] < MIB, "a hole takes no room"


def test_a_quota_is_hard_and_only_its_owner_feels_it(hard: Bench) -> None:
    volume, other = name_of(hard), name_of(hard, "00000000000b")
    for one in (volume, other):
        for _ in range(2):
            assert hard.driver.ensure_volume(one, installation=hard.installation, size_bytes=16 * MIB)
    assert len(devices(hard)) == 2
    container, neighbour = use(hard, volume), use(hard, other)
    code, said = output(
        hard, container, ["sh", "-c", "id -u; ls -an /workspace; cat /dev/zero > /workspace/x"]
    )
    assert code != 0
    assert said.startswith(b"1000\n")
    assert b"No space left on device" in said
    sizes = hard.driver.volume_sizes([volume, other])
    assert 10 * MIB < sizes[volume] <= 16 * MIB
    assert sizes[other] < MIB
    assert output(hard, neighbour, ["sh", "-c", "echo fine > /workspace/x"])[0] == 0
    # it grows once nobody has it, and shrinks never
    for size in (32, 24):
        assert hard.driver.ensure_volume(volume, installation=hard.installation, size_bytes=size * MIB)
        hard.driver.stop(container.id, grace_seconds=0)
    assert hard.driver.ensure_volume(volume, installation=hard.installation, size_bytes=32 * MIB)
    hard.driver.start(container.id)
    assert output(hard, container, ["dd", "if=/dev/zero", "of=/workspace/y", "bs=1M", "count=10"])[0] == 0
    assert 20 * MIB < hard.driver.volume_sizes([volume])[volume] < 32 * MIB


def test_readers_cannot_write(hard: Bench) -> None:
    volume = name_of(hard)
    hard.driver.ensure_volume(volume, installation=hard.installation, size_bytes=16 * MIB)
    writer, reader = use(hard, volume), use(hard, volume, read_only=True)
    assert output(hard, writer, ["sh", "-c", "echo hi > /workspace/x"]) == (0, b"")
    code, said = output(hard, reader, ["sh", "-c", "cat /workspace/x; echo no > /workspace/x"])
    assert code == 1
    assert b"hi\n" in said
    assert b"Read-only file system" in said


def test_after_a_restart_of_the_machine_it_is_set_up_again_and_never_mistaken(hard: Bench) -> None:
    volume = name_of(hard)
    hard.driver.ensure_volume(volume, installation=hard.installation, size_bytes=16 * MIB)
    container = use(hard, volume)
    assert output(hard, container, ["sh", "-c", "echo kept > /workspace/x; sync"])[0] == 0
    hard.driver.stop(container.id, grace_seconds=0)
    restart_machine(hard)
    with pytest.raises(DriverError):
        hard.driver.start(container.id)  # rather than with an empty folder, or with somebody else's files
    assert 0 < hard.driver.volume_sizes([volume])[volume] < MIB
    assert hard.driver.ensure_volume(volume, installation=hard.installation, size_bytes=24 * MIB)
    hard.driver.start(container.id)
    assert output(hard, container, ["cat", "/workspace/x"]) == (0, b"kept\n")
    assert len(devices(hard)) == 1


def test_an_export_sets_up_what_nothing_uses(hard: Bench) -> None:
    volume = name_of(hard)
    hard.driver.ensure_volume(volume, installation=hard.installation, size_bytes=16 * MIB)
    restart_machine(hard)
    archive = hard.driver.archive(volume, name="x" + hard.installation, installation=hard.installation)
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as tar:
        assert tar.getnames() == ["workspace"]
    archive.close()


@pytest.mark.parametrize("left", ["making", "image", "device"])
def test_what_a_kill_left_half_made_is_gone_on_from_or_removed(hard: Bench, left: str) -> None:
    volume = name_of(hard)
    image = FOLDER / f"{volume}.ext4"
    hard.driver.ensure_volume(volume, installation=hard.installation, size_bytes=16 * MIB)
    docker("volume", "rm", volume)
    if left != "device":
        restart_machine(hard)
    if left == "making":
        image.rename(image.with_suffix(".making"))
    assert hard.driver.volumes(hard.installation) == [volume]
    assert hard.driver.ensure_volume(volume, installation=hard.installation, size_bytes=16 * MIB)
    assert output(hard, use(hard, volume), ["touch", "/workspace/x"])[0] == 0
    assert len(devices(hard)) == 1
    for container in hard.driver.containers(hard.installation):
        hard.driver.remove(container.id, network=None)
    docker("volume", "rm", volume)
    hard.driver.remove_volume(volume)
    assert hard.driver.volumes(hard.installation) == []
    assert list(FOLDER.glob(f"{volume}*")) == []


def test_a_damaged_file_system_keeps_nobody_from_knowing_how_full_theirs_is(hard: Bench) -> None:
    damaged, sound = name_of(hard), name_of(hard, "00000000000b")
    for volume in (damaged, sound):
        hard.driver.ensure_volume(volume, installation=hard.installation, size_bytes=16 * MIB)
    restart_machine(hard)
    with (FOLDER / f"{damaged}.ext4").open("r+b") as file:
        file.write(bytes(MIB))
    assert set(hard.driver.volume_sizes([damaged, sound])) == {sound}


def test_files_that_are_gone_are_not_made_anew(hard: Bench) -> None:
    volume = name_of(hard)
    hard.driver.ensure_volume(volume, installation=hard.installation, size_bytes=16 * MIB)
    restart_machine(hard)
    (FOLDER / f"{volume}.ext4").unlink()
    with pytest.raises(DriverError, match="is gone"):
        hard.driver.ensure_volume(volume, installation=hard.installation, size_bytes=16 * MIB)


def test_the_device_of_a_file_that_somebody_removed_is_let_go(hard: Bench) -> None:
    volume, other = name_of(hard), name_of(hard, "00000000000b")
    hard.driver.ensure_volume(volume, installation=hard.installation, size_bytes=16 * MIB)
    (FOLDER / f"{volume}.ext4").unlink()
    assert len(devices(hard)) == 1
    hard.driver.ensure_volume(other, installation=hard.installation, size_bytes=16 * MIB)
    (kept,) = devices(hard)
    assert (LINKS / other).readlink() == Path(kept)
    assert not (LINKS / volume).is_symlink()


def test_without_the_right_to_loop_devices_it_is_a_plain_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "possible", lambda *_: None)
    with opened(real=True) as bench:
        driver = bench.driver
        assert isinstance(driver, DockerDriver)
        if driver.probe().disk_quota == volumes.BY_ENGINE:
            pytest.skip("this machine's engine has quotas of its own")
        assert driver.probe().disk_quota is None
        volume = name_of(bench)
        assert not driver.ensure_volume(volume, installation=bench.installation, size_bytes=16 * MIB)
        filled = ["dd", "if=/dev/zero", "of=/workspace/x", "bs=1M", "count=20"]
        assert output(bench, use(bench, volume), filled)[0] == 0
        assert driver.volume_sizes([volume])[volume] >= 20 * MIB
