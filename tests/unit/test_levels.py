"""What is said to be kept of a suspended lease."""

from __future__ import annotations

import pytest

from scheduler.policy.levels import FILES, driver_can, kept


@pytest.mark.parametrize(
    ("version", "can"),
    [("550.54.15", True), ("570", True), ("549.99", False), ("535.104.05", False), (None, False), ("", False),
     ("x.y", False), ("²50", False)],
)  # fmt: skip
def test_which_drivers_can_park_gpu_state(version: str | None, can: bool) -> None:
    assert driver_can(version) is can


def test_it_is_the_files_whatever_there_is_and_says_why() -> None:
    assert kept(devices=False, driver_version="570.1", tool=True) == FILES
    said = {
        kept(devices=True, driver_version=version, tool=tool)
        for version, tool in ((None, False), ("535.104.05", True), ("550.54.15", False), ("550.54.15", True))
    }
    assert len(said) == 4
    assert all(one.startswith(FILES) for one in said)
    assert f"{FILES} (cuda-checkpoint: driver 535.104.05 is older than 550)" in said
