"""Files in many layers are made one again, and are the same: Docker for real, and the engine in memory."""

from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from leasing.drivers.fake import FakeDriver
from leasing.drivers.protocol import Container, Image
from leasing.errors import ContainerGone, DriverError, ImageNotFound
from tests.support.bench import Bench, docker, network_of, opened, output
from tests.support.images import BUSYBOX

pytestmark = pytest.mark.xdist_group("docker")
CAPABILITY = "SCHILY.xattr.security.capability"
CAN_BIND_LOW_PORTS = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
ENGINE_S_OWN = (
    "dev",
    "proc",
    "sys",
    ".dockerenv",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "etc/mtab",
)


@pytest.fixture(params=["fake", "docker"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with opened(real=request.param == "docker") as made:
        try:
            yield made
        finally:
            for image in made.driver.images():
                if image.kept_by(made.installation):
                    made.driver.remove_image(image.tags[0] if image.tags else image.id)


def kept(bench: Bench, container: Container, generation: int, *, flat: bool = False) -> Image:
    keep = bench.driver.flatten if flat else bench.driver.commit
    labels = {"leasing.installation": bench.installation, "leasing.role": "kept"}
    return keep(container.name, tag=f"leasing/kept-{bench.installation}-flat:{generation}", labels=labels)


def test_its_layers_are_one_again_whenever_that_is_wanted(bench: Bench) -> None:
    """Each suspension lays one upon the others; a flat one begins anew, with the same files and settings."""
    facts = bench.facts(env={"TOKEN": "s3cret"})
    last = bench.up(facts)
    base = bench.driver.find_image(facts.image)
    assert base is not None
    try:
        for generation in range(2, 6):
            bench.driver.write_file(last.id, f"/home/lease/{generation}", b"work")
            bench.driver.stop(last.id, grace_seconds=0)
            image = kept(bench, last, generation, flat=generation == 4)
            expected = {2: 1, 3: 2, 4: 0, 5: 1}[generation]
            assert image.commits == expected
            assert image.layers <= base.layers + 3
            on = bench.up(replace(facts, image=image.tags[0], generation=generation, follows=last.name))
            bench.driver.remove(last.name, network=None)
            last = on
        for generation in range(2, 6):
            path = f"/home/lease/{generation}"
            if isinstance(bench.driver, FakeDriver):
                assert bench.driver.file(last.id, path) == b"work"
            else:
                assert output(bench, last, ["cat", path]) == (0, b"work")
        assert kept(bench, last, 5, flat=True).labels["leasing.role"] == "kept"
    finally:
        bench.driver.remove(last.name, network=network_of(bench, last))
    containers = bench.driver.containers(bench.installation)
    assert containers == [], "nothing that it was made with stays"


def test_what_is_gone_cannot_be_flattened_or_measured(bench: Bench) -> None:
    gone = replace(bench.up(bench.facts()), name="leasing-nosuch")
    for act in (lambda: kept(bench, gone, 2, flat=True), lambda: bench.driver.written_bytes(gone.name)):
        with pytest.raises(ContainerGone):
            act()


@pytest.mark.parametrize("bench", ["fake"], indirect=True)
def test_an_engine_stacks_only_so_many(bench: Bench) -> None:
    facts = bench.facts()
    last = bench.up(facts)
    for generation in range(2, 126):
        image = kept(bench, last, generation)
        last = bench.up(replace(facts, image=image.tags[0], generation=generation, follows=last.name))
    with pytest.raises(DriverError, match="max depth"):
        kept(bench, last, 126)
    assert kept(bench, last, 126, flat=True).layers == 1


@pytest.mark.parametrize("bench", ["docker"], indirect=True)
def test_not_a_bit_of_the_files_changes(bench: Bench, tmp_path: Path) -> None:
    """Owners, modes, times, links of both kinds, capabilities, holes: as the engine itself tells of them."""
    root = f"leasing-test/{bench.installation}:root"
    (tmp_path / "root.tar").write_bytes(_odd_files())
    bench.driver.import_image(tmp_path / "root.tar", tag=root)
    (tmp_path / "Dockerfile").write_text(
        f"FROM {root}\nENV A=image\nWORKDIR /data\nEXPOSE 8000\nHEALTHCHECK CMD true\nSTOPSIGNAL SIGINT\n"
        'ENTRYPOINT ["sh", "-c"]\nCMD ["sleep 500"]\nVOLUME /scratch\nUSER 7\nONBUILD RUN true\n'
        'LABEL own="a \\"b\\" $c"\n'
    )
    image = bench.driver.build_image(
        tmp_path, tag=f"leasing-test/{bench.installation}:5", build_args={}, labels={}, extra_files={},
        progress=lambda _: None,
    )  # fmt: skip
    first = bench.up(bench.facts(image=image.tags[0], command=None, env={"C": "s3cret"}))
    try:
        assert output(bench, first, ["sh", "-c", "rm /data/gone && echo mine > /tmp/mine"])[0] == 0
        bench.driver.stop(first.id, grace_seconds=0)
        assert bench.driver.written_bytes(first.name) == len("mine\n")
        before = _files(first.id)
        flat = kept(bench, first, 2, flat=True)
        second = docker("create", flat.tags[0]).strip()
        try:
            assert _files(second) == before
        finally:
            docker("rm", "-v", second)
        assert before["data/tool"][-1] == CAN_BIND_LOW_PORTS
        assert tarfile.LNKTYPE in (before["data/other"][1], before["data/linked"][1])
        assert "data/gone" not in before
        committed = kept(bench, first, 3)
        assert _config(flat.tags[0]) == _config(committed.tags[0])
        assert "s3cret" not in docker("image", "inspect", flat.tags[0])
        assert bench.driver.remove_image(committed.tags[0])
    finally:
        bench.driver.remove(first.name, network=network_of(bench, first))
    assert bench.driver.remove_image(f"leasing/kept-{bench.installation}-flat:2")
    assert bench.driver.remove_image(image.tags[0])
    assert bench.driver.remove_image(root)


def _odd_files() -> bytes:
    """A root file system with some that are easily lost or changed."""
    made = docker("create", BUSYBOX, "sh").strip()
    data = io.BytesIO(subprocess.run(["docker", "export", made], capture_output=True, check=True).stdout)
    docker("rm", made)
    with tarfile.open(fileobj=data, mode="a", format=tarfile.PAX_FORMAT) as tar:
        folder = tarfile.TarInfo("data")
        folder.type, folder.mode, folder.uid, folder.gid, folder.mtime = (
            tarfile.DIRTYPE,
            0o1777,
            1000,
            1000,
            7,
        )
        tar.addfile(folder)
        tool = tarfile.TarInfo("data/tool")
        tool.size, tool.mode, tool.uid, tool.gid, tool.mtime = 5, 0o755, 1000, 77, 1234567890
        tool.pax_headers = {CAPABILITY: CAN_BIND_LOW_PORTS.decode("utf-8", "surrogateescape")}
        tar.addfile(tool, io.BytesIO(b"#!abc"))
        linked = tarfile.TarInfo("data/linked")
        linked.size, linked.mode, linked.uid = 5, 0o4755, 1000
        tar.addfile(linked, io.BytesIO(b"#!def"))
        for name, kind, target in (
            ("data/other", tarfile.LNKTYPE, "data/linked"),
            ("data/link", tarfile.SYMTYPE, "/nowhere/at all"),
            ("data/pipe", tarfile.FIFOTYPE, ""),
            ("data/gone", tarfile.SYMTYPE, "/etc"),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode, entry.uid, entry.mtime = kind, target, 0o640, 1000, 99
            tar.addfile(entry)
        holes = tarfile.TarInfo("data/ünïcode with spaces and a very long name " + "x" * 120)
        holes.size, holes.mode, holes.uid, holes.gid = 3_000_000, 0o600, 1000, 1000
        tar.addfile(holes, io.BytesIO(b"\0" * 3_000_000))
    return data.getvalue()


def _files(container: str) -> dict[str, tuple[object, ...]]:
    """All that the engine tells of each of its files: capabilities last."""
    exported = subprocess.run(["docker", "export", container], capture_output=True, check=True).stdout
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
        for one in tar:
            if one.name.split("/")[0] in ENGINE_S_OWN or one.name in ENGINE_S_OWN or one.name == "etc":
                continue
            content = tar.extractfile(one) if one.isreg() else None
            digest = hashlib.sha256(content.read()).hexdigest() if content is not None else None
            held = one.pax_headers.get(CAPABILITY)
            found[one.name] = (
                digest, one.type, one.mode, one.uid, one.gid, int(one.mtime), one.linkname,
                held.encode("utf-8", "surrogateescape") if held is not None else None,
            )  # fmt: skip
    return found


def _config(reference: str) -> object:
    shown = docker("image", "inspect", "--format", "{{json .Config}}", reference)
    return shown.replace('"leasing.commits":"1"', '"leasing.commits":"0"')


def test_what_one_engine_saved_another_loads(bench: Bench) -> None:
    container = bench.up(bench.facts())
    bench.driver.write_file(container.id, "/home/lease/made", b"work")
    bench.driver.stop(container.id, grace_seconds=0)
    image = kept(bench, container, 2)
    archive = list(bench.driver.save_image(image.tags[0]))
    assert bench.driver.remove_image(image.tags[0])
    with pytest.raises(ImageNotFound):
        list(bench.driver.save_image(image.tags[0]))
    loaded = bench.driver.load_image(iter(archive), tag=image.tags[0])
    assert (loaded.id, loaded.labels, loaded.layers) == (image.id, image.labels, image.layers)
    on = bench.up(bench.facts(image=image.tags[0], generation=2))
    try:
        if isinstance(bench.driver, FakeDriver):
            assert bench.driver.file(on.id, "/home/lease/made") == b"work"
        else:
            assert output(bench, on, ["cat", "/home/lease/made"]) == (0, b"work")
    finally:
        for one in (container, on):
            bench.driver.remove(one.id, network=network_of(bench, one))
