"""File systems in files: what growing one does, without a loop device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from leasing.drivers.docker import loops
from leasing.drivers.docker.loops import Loops
from leasing.errors import DriverError

MIB = 1024**2
NAME = "leasing-00000001-ws-00000000000a"


class Tools:
    """Stand for the system's tools; one of them may fail."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fails = ""

    def run(self, *command: str, good: Sequence[int] = (0,)) -> str:
        self.ran.append(command[0])
        if command[0] == self.fails:
            raise DriverError(f"{command[0]} failed.")
        return "/dev/loop7" if "--associated" in command else ""


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tools:
    made = Tools()
    monkeypatch.setattr(loops, "_run", made.run)
    monkeypatch.setattr(loops, "LINKS", tmp_path / "links")
    return made


@pytest.fixture
def image(tmp_path: Path) -> Path:
    made = tmp_path / "leasing-workspaces" / f"{NAME}.ext4"
    made.parent.mkdir()
    made.touch()
    os.truncate(made, MIB)
    return made


@pytest.mark.parametrize("fails", ["losetup", "e2fsck", "resize2fs"])
def test_what_was_cut_short_while_it_grew_grows_the_next_time(
    tools: Tools, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    made = Loops(tmp_path)
    monkeypatch.setattr(made, "_device", lambda _: "/dev/loop7")
    tools.fails = fails
    with pytest.raises(DriverError):
        made.set_up(NAME, 2 * MIB)
    tools.fails = ""
    tools.ran.clear()
    made.set_up(NAME, 2 * MIB)
    assert tools.ran == ["losetup", "e2fsck", "resize2fs"]
    assert image.stat().st_size == 2 * MIB
    tools.ran.clear()
    made.set_up(NAME, 2 * MIB)
    made.set_up(NAME, MIB)
    assert tools.ran == [], "it has grown, and never shrinks"


def test_nothing_is_left_of_one_that_was_growing(tools: Tools, image: Path, tmp_path: Path) -> None:
    made = Loops(tmp_path)
    tools.fails = "resize2fs"
    with pytest.raises(DriverError):
        made.set_up(NAME, 2 * MIB)
    assert made.names("leasing-00000001-") == [NAME]
    made.remove(NAME)
    assert made.names("leasing-00000001-") == []
