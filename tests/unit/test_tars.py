"""Tars from strangers: what is let through, and what is not."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from api.streams import tars
from api.streams.tars import Inflow, cleaned
from leasing.errors import Invalid

Fill = Callable[[tarfile.TarFile], None]


def packed(fill: Fill, how: int = tarfile.PAX_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=how) as archive:
        fill(archive)
    return data.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes = b"", **facts: Any) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    for key, value in facts.items():
        setattr(entry, key, value)
    archive.addfile(entry, io.BytesIO(content))


def through(data: bytes, *, most: int = 10**9, piece: int = 700) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    pieces = iter([data[at : at + piece] for at in range(0, len(data), piece)])
    out = b"".join(cleaned(Inflow(lambda: next(pieces, None)), most_bytes=most))
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        return {one.name: (one, _content(archive, one)) for one in archive}


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    held = archive.extractfile(entry) if entry.isreg() else None
    return held.read() if held else b""


@pytest.mark.parametrize("how", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_folders_and_links_pass_and_belong_to_the_lease_s_user(how: int) -> None:
    long = "deep/" * 15 + "name"

    def fill(archive: tarfile.TarFile) -> None:
        add(archive, "./", type=tarfile.DIRTYPE)
        add(archive, "./a", b"x" * 1000, uid=0, gid=0, uname="root", mode=0o6755, mtime=1_700_000_000)
        add(archive, "d", type=tarfile.DIRTYPE, mode=0o000)
        add(archive, "d/empty", mode=0o400)
        add(archive, long, b"y")
        add(archive, "python", type=tarfile.SYMTYPE, linkname="/usr/bin/python3")
        add(archive, "d/up", type=tarfile.SYMTYPE, linkname="../a")
        add(archive, "same", type=tarfile.LNKTYPE, linkname="./a")

    found = through(packed(fill, how))
    assert {one for one in found if "deep" not in one} == {"a", "d", "d/empty", "python", "d/up", "same"}
    assert long in found
    assert found["deep/deep"][0].isdir(), "folders that the archive leaves out are the user's, too"
    entry, content = found["a"]
    assert (content, entry.mode, entry.mtime) == (b"x" * 1000, 0o755, 1_700_000_000)
    assert {(one.uid, one.gid, one.uname, one.gname) for one, _ in found.values()} == {(1000, 1000, "", "")}
    assert (found["d"][0].mode, found["d/empty"][0].mode) == (0o700, 0o600)
    assert found["python"][0].linkname == "/usr/bin/python3"
    assert found["same"][0].islnk()


@pytest.mark.parametrize(
    ("name", "facts", "said"),
    [
        ("../out", {}, "does not stay below"),
        ("a/../../out", {}, "does not stay below"),
        ("/etc/passwd", {}, "does not stay below"),
        ("n" * 5000, {}, "does not stay below"),
        ("up", {"type": tarfile.SYMTYPE, "linkname": "../out"}, "leads out"),
        ("d/up", {"type": tarfile.SYMTYPE, "linkname": "../../out"}, "leads out"),
        ("none", {"type": tarfile.SYMTYPE, "linkname": ""}, "leads nowhere"),
        ("hard", {"type": tarfile.LNKTYPE, "linkname": "/etc/shadow"}, "does not stay below"),
        ("hard", {"type": tarfile.LNKTYPE, "linkname": "unseen"}, "neither file nor"),
        ("disk", {"type": tarfile.BLKTYPE}, "neither file nor"),
        ("tty", {"type": tarfile.CHRTYPE}, "neither file nor"),
        ("pipe", {"type": tarfile.FIFOTYPE}, "neither file nor"),
    ],
)
def test_what_would_leave_the_folder_or_is_no_file_is_refused(
    name: str, facts: dict[str, Any], said: str
) -> None:
    with pytest.raises(Invalid, match=said):
        through(packed(lambda archive: add(archive, name, **facts)))


def test_nothing_is_written_through_a_link_of_the_archive_s_own() -> None:
    def fill(archive: tarfile.TarFile) -> None:
        add(archive, "way", type=tarfile.SYMTYPE, linkname="/usr/bin")
        add(archive, "way/python3", b"evil")

    with pytest.raises(Invalid, match="behind a link"):
        through(packed(fill))


def test_so_much_and_so_many_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        for name in "ab":
            add(archive, name, b"12345")

    two = packed(fill)
    assert len(through(two, most=10)) == 2
    with pytest.raises(Invalid, match="9 bytes"):
        through(two, most=9)
    monkeypatch.setattr(tars, "MOST_ENTRIES", 1)
    with pytest.raises(Invalid, match="1 files"):
        through(two)


def test_what_is_no_whole_tar_is_said() -> None:
    whole = packed(lambda archive: add(archive, "a", b"x" * 5000))
    for data in (b"", b"no tar at all" * 100, whole[:2000], b"\x1f\x8b" + b"0" * 600):
        with pytest.raises(Invalid, match="no whole tar"):
            through(data)


def test_a_header_without_end_is_not_held_in_memory() -> None:
    endless = tarfile.TarInfo("././@LongLink")
    endless.type, endless.size = tarfile.GNUTYPE_LONGNAME, 2**33
    asked = 0

    def more() -> bytes:
        nonlocal asked
        asked += 1
        return endless.tobuf(tarfile.GNU_FORMAT) if asked == 1 else b"n" * 65536

    with pytest.raises(Invalid, match="a header is longer than"):
        list(cleaned(Inflow(more), most_bytes=10**9))
    assert asked < 50
