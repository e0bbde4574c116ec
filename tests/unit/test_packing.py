"""What a container sends lands where it was wanted, whatever it claims to be."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from leasing.errors import Conflict, LeasingError
from leasing.sdk.packing import Copied, packed, size_of, unpacked


def tar(*entries: tuple[str, bytes, dict[str, Any]]) -> list[bytes]:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content, facts in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for key, value in facts.items():
                setattr(entry, key, value)
            archive.addfile(entry, io.BytesIO(content))
    return [data.getvalue()]


LINK = {"type": tarfile.SYMTYPE}


def test_a_tree_is_the_same_at_the_other_end(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    os.utime(tree / "run", (1_700_000_000, 1_700_000_000))
    (tree / ("long" * 40)).write_bytes(b"x" * 100_001)
    (tree / "deep" / "way").symlink_to("../run")
    os.mkfifo(tree / "pipe")
    copied = Copied()
    moved: list[int] = []
    pieces = list(packed([(tree, "t")], copied, moved.append))
    assert (copied.files, copied.bytes) == (2, size_of([tree]))
    assert sum(moved) == copied.bytes
    assert copied.skipped == [f"{tree / 'pipe'} is no file"]

    (tmp_path / "to").mkdir()
    found = unpacked(pieces, tmp_path / "to", "renamed")
    other = tmp_path / "to" / "renamed"
    assert (found.files, found.bytes) == (copied.files, copied.bytes)
    assert (other / "run").stat().st_mode & 0o777 == 0o755
    assert (other / "run").stat().st_mtime == 1_700_000_000
    assert (other / ("long" * 40)).stat().st_size == 100_001
    assert (other / "deep" / "way").read_text() == "#!/bin/sh\n"


@pytest.mark.parametrize(
    "entries",
    [
        (("d/../../evil", b"x", {}),),
        (("d/way", b"", LINK | {"linkname": "../outside"}), ("d/way/evil", b"x", {})),
        (("d/way", b"", LINK | {"linkname": "/tmp"}), ("d/way", b"", {"type": tarfile.DIRTYPE})),
    ],
)
def test_nothing_lands_elsewhere(tmp_path: Path, entries: Any) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "outside").mkdir()
    with pytest.raises(Conflict):
        unpacked(tar(*entries), tmp_path / "to", "d")
    assert not list(tmp_path.rglob("evil"))


def test_a_link_that_was_there_is_replaced_rather_than_followed(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("mine")
    (tmp_path / "a").symlink_to(tmp_path / "own")
    unpacked(tar(("a", b"theirs", {"mode": 0o6777})), tmp_path, "a")
    assert (tmp_path / "own").read_text() == "mine"
    assert (tmp_path / "a").read_text() == "theirs"
    assert (tmp_path / "a").stat().st_mode & 0o7000 == 0


def test_what_is_no_file_is_left_out_and_what_breaks_off_is_said(tmp_path: Path) -> None:
    found = unpacked(tar(("d/pipe", b"", {"type": tarfile.FIFOTYPE}), ("d/a", b"1", {})), tmp_path, "d")
    assert (found.files, found.skipped) == (1, ["d/pipe is no file"])
    whole = tar(("b", b"x" * 5000, {}))[0]
    with pytest.raises(LeasingError, match="broke off"):
        unpacked([whole[:3000]], tmp_path, "b")
