"""Files in and out of containers: Docker for real, and the engine in memory, answer alike."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest

from leasing.drivers.docker import copying
from leasing.drivers.fake import FakeDriver
from leasing.errors import Conflict, ContainerGone, DriverError, NotAllowed, NotFound
from tests.support.bench import Bench, opened, output

pytestmark = pytest.mark.xdist_group("docker")


@pytest.fixture(params=["fake", "docker"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with opened(real=request.param == "docker") as made:
        yield made


def tar(**files: bytes) -> Iterator[bytes]:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size, entry.uid, entry.gid, entry.mode = len(content), 1000, 1000, 0o640
            archive.addfile(entry, io.BytesIO(content))
    whole = data.getvalue()
    yield from (whole[at : at + 10_000] for at in range(0, len(whole), 10_000))


def untar(pieces: Iterator[bytes]) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        return {one.name: held.read() for one in archive if (held := archive.extractfile(one)) is not None}


def test_what_is_copied_in_is_listed_and_comes_out_again(bench: Bench) -> None:
    container = bench.up(bench.facts(workspace=f"leasing-{bench.installation}-ws-1"))
    big = bytes(range(256)) * 2000
    bench.driver.copy_in(container.id, "/workspace", tar(a=b"one", d__deep=b"two", big=big))

    found = bench.driver.list_files(container.id, "/workspace")
    assert (found.itself.name, found.itself.folder, found.more) == ("workspace", True, False)
    known = {
        one.name: (one.kind, one.folder, one.size_bytes) for one in found.entries if one.name != "lost+found"
    }
    assert known == {"d": ("folder", True, 0), "a": ("file", False, 3), "big": ("file", False, len(big))}
    alone = bench.driver.list_files(container.id, "/workspace/a")
    assert (alone.itself.name, alone.itself.folder, alone.entries) == ("a", False, ())

    assert untar(bench.driver.copy_out(container.id, "/workspace/big")) == {"big": big}
    whole = untar(bench.driver.copy_out(container.id, "/workspace"))
    assert whole == {"workspace/a": b"one", "workspace/d/deep": b"two", "workspace/big": big}


def test_what_is_not_there_is_said(bench: Bench) -> None:
    container = bench.up(bench.facts())
    driver = bench.driver
    for act in (
        lambda: driver.list_files(container.id, "/nosuch"),
        lambda: list(driver.copy_out(container.id, "/nosuch")),
        lambda: driver.copy_in(container.id, "/nosuch", tar(a=b"1")),
    ):
        with pytest.raises(NotFound, match="/nosuch"):
            act()
    driver.copy_in(container.id, "/workspace", tar(a=b"1"))
    with pytest.raises(Conflict, match="/workspace/a is no folder"):
        driver.copy_in(container.id, "/workspace/a", tar(b=b"1"))
    for again in (
        lambda: driver.list_files("nosuch", "/"),
        lambda: list(driver.copy_out("nosuch", "/")),
        lambda: driver.copy_in("nosuch", "/", tar(a=b"1")),
    ):
        with pytest.raises(ContainerGone):
            again()


def test_what_the_archive_raises_comes_out_as_it_is(bench: Bench) -> None:
    container = bench.up(bench.facts())

    def broken() -> Iterator[bytes]:
        yield from tar(a=b"1" * 5000)
        raise NotAllowed("cut")

    with pytest.raises(NotAllowed, match="cut"):
        bench.driver.copy_in(container.id, "/workspace", broken())


def test_a_copy_out_can_be_given_up(bench: Bench) -> None:
    container = bench.up(bench.facts())
    bench.driver.copy_in(container.id, "/workspace", tar(big=b"x" * 2**24))
    stream = bench.driver.copy_out(container.id, "/workspace/big")
    got = 0
    while got < 2**23:  # compressed, all of it would have come by now
        got += len(next(stream))
    stream.close()
    assert len(b"".join(stream)) < 2**20, "what was under way already, and no more"


@pytest.mark.parametrize("look", ["sleep 600", "while :; do echo 81a4 1 1 ./x; sleep 0.1; done"])
def test_a_container_that_does_not_answer_is_given_up(
    bench: Bench, look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(bench.driver, FakeDriver):
        pytest.skip("the engine in memory asks no command")
    container = bench.up(bench.facts())
    monkeypatch.setattr(copying, "LOOK", look)
    monkeypatch.setattr(copying, "LOOK_SECONDS", 0.5)
    with pytest.raises(DriverError, match="did not say within"):
        bench.driver.list_files(container.id, "/workspace")


def test_links_odd_names_and_closed_folders_are_told_apart(bench: Bench) -> None:
    """What only a real file system has."""
    if isinstance(bench.driver, FakeDriver):
        pytest.skip("the engine in memory has files only")
    container = bench.up(bench.facts())
    script = r"""
    cd /workspace; mkdir in; ln -s in way; ln -s nowhere lost; mkfifo pipe; mkdir -m 0 closed
    : > "a b"; : > "$(printf 'new\nline')"; : > -n; : > 'ü'; : > .hidden
    """
    assert output(bench, container, ["sh", "-ec", script])[0] == 0
    found = bench.driver.list_files(container.id, "/workspace").entries
    assert [(one.name, one.kind, one.folder) for one in found] == [
        ("closed", "folder", True), ("in", "folder", True), ("way", "link", True), ("-n", "file", False),
        (".hidden", "file", False), ("a b", "file", False), ("lost", "link", False), ("new\nline", "file", False),
        ("pipe", "other", False), ("ü", "file", False),
    ]  # fmt: skip
    with pytest.raises(NotAllowed, match="/workspace/closed"):
        bench.driver.list_files(container.id, "/workspace/closed")
    assert bench.driver.list_files(container.id, "/workspace/lost").itself.kind == "link"


def test_a_workspace_that_is_only_read_stays_as_it_is(bench: Bench) -> None:
    if isinstance(bench.driver, FakeDriver):
        pytest.skip("the engine in memory mounts nothing")
    volume = f"leasing-{bench.installation}-ws-1"
    writer = bench.up(bench.facts(workspace=volume))
    bench.driver.copy_in(writer.id, "/workspace", tar(a=b"1"))
    reader = bench.up(bench.facts(workspace=volume, read_only=True))
    assert untar(bench.driver.copy_out(reader.id, "/workspace/a")) == {"a": b"1"}
    with pytest.raises(NotAllowed, match="only be read"):
        bench.driver.copy_in(reader.id, "/workspace", tar(b=b"1"))
