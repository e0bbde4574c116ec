"""What a container that looks for its devices tells."""

from __future__ import annotations

import pytest

from scheduler.policy.inside import Sight, judge

A, B = "GPU-5a1e0c6b-1111-2222-3333-444455556666", "MIG-7c9d0f21-aaaa-bbbb-cccc-ddddeeeeffff"
LISTED = f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})\n  MIG 1g.5gb Device 0: (UUID: {B})\n"


def test_all_is_well_when_each_is_listed() -> None:
    assert judge(0, LISTED, [A, B]) == Sight(known=True)


def test_an_image_without_the_program_tells_nothing() -> None:
    assert judge(127, "sh: nvidia-smi: not found", [A]) == judge(126, "", [A]) == Sight(known=False)


@pytest.mark.parametrize(
    ("code", "output", "said"),
    [
        (255, "\nFailed to initialize NVML: Unknown Error\n", "Failed to initialize NVML: Unknown Error"),
        (18, "Failed to initialize NVML: Driver/library version mismatch", "version mismatch"),
        (6, "No devices were found", "No devices were found"),
        (9, "", "exit code 9"),
        (0, f"GPU 0: A100 (UUID: {A})", B),
        (0, "", f"{A} and {B}"),
        (None, "", "does not come back"),
    ],
)
def test_what_is_wrong_is_told_in_its_own_words(code: int | None, output: str, said: str) -> None:
    found = judge(code, output, [A, B])
    assert found.known
    assert said in found.fault


def test_much_said_is_cut_short() -> None:
    assert len(judge(1, "x" * 10_000, [A]).fault) < 300
