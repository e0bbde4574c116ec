"""Asks of devices: what people write, what it means, and what it means on a given device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasing.errors import Invalid
from leasing.gpus import WHOLE, GpuAsk, parse_gpu

GIB = 2**30
A100, INSTANCE = "NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB MIG 1g.10gb"


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        ("0", GpuAsk(0)),
        ("2", GpuAsk(2)),
        ("A100", GpuAsk(1, "A100")),
        ("A100:2", GpuAsk(2, "A100")),
        ("0.5", GpuAsk(1, None, 500)),
        (".125", GpuAsk(1, None, 125)),
        ("24GB", GpuAsk(1, memory_bytes=24 * GIB)),
        ("512m", GpuAsk(1, memory_bytes=GIB // 2)),
        ("A100:24GB", GpuAsk(1, "A100", memory_bytes=24 * GIB)),
        ("A100:0.25", GpuAsk(1, "A100", 250)),
        ("1g.10gb", GpuAsk(1, "1g.10gb")),
        ("1g.10gb:2", GpuAsk(2, "1g.10gb")),
        ("2g.20gb+me", GpuAsk(1, "2g.20gb+me")),
    ],
)
def test_what_people_write(text: str, ask: GpuAsk) -> None:
    assert parse_gpu(text) == ask
    assert parse_gpu(str(ask)) == ask, "it is shown so that it reads back"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "A100:0",
        ":2",
        "A100:",
        "99999",
        "A100:x x",
        "a'b",
        "A100:2:3",
        "0.0",
        "1.5",
        "0.0004",
        "0GB",
        "1g.",
    ],
)
def test_what_is_no_ask(text: str) -> None:
    with pytest.raises(Invalid):
        parse_gpu(text)


@pytest.mark.parametrize(
    ("ask", "whole_device", "instance"),
    [
        ("1", True, False),
        ("a100", True, False),
        ("1g.10gb", False, True),
        ("mig", False, True),
        ("H100", False, False),
    ],
)
def test_an_instance_goes_only_to_who_names_it(ask: str, whole_device: bool, instance: bool) -> None:
    assert parse_gpu(ask).takes(A100, instance=False) is whole_device
    assert parse_gpu(ask).takes(INSTANCE, instance=True) is instance


@given(st.integers(1, 200 * GIB), st.integers(GIB, 200 * GIB))
def test_a_memory_ask_is_never_short_changed(wanted: int, total: int) -> None:
    ask = GpuAsk(1, memory_bytes=wanted)
    share = ask.share_of(total)
    if wanted > total:
        assert share is None
    else:
        assert share is not None
        assert 1 <= share <= WHOLE
        assert share * total >= wanted * WHOLE - WHOLE, "its share of time is its share of memory, rounded up"
        assert ask.memory_of(total) == wanted


@given(st.integers(1, WHOLE), st.integers(GIB, 200 * GIB))
def test_shares_that_fill_a_device_fit_its_memory(share: int, total: int) -> None:
    ask = GpuAsk(1, None, share)
    assert (WHOLE // share) * ask.memory_of(total) <= total
