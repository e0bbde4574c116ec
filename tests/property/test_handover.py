"""When a device is clean: the rule over generated samples, and the clock that says which samples count."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasing.schema.report import FaultReport, ProcessReport
from leasing.service.handover import DEVICE_XIDS, leftover, taken
from monitoring.node import DatabaseClock

MIB = 2**20
CONTAINERS = ["a" * 64, "b" * 64, "c" * 64]
EPOCH = datetime(2026, 11, 21, tzinfo=UTC)

processes = st.lists(
    st.builds(
        ProcessReport,
        pid=st.integers(1, 9999),
        memory_bytes=st.none() | st.integers(0, 2**36),
        container_id=st.none() | st.sampled_from(CONTAINERS),
        name=st.sampled_from(["", "python", "Xorg"]),
    ),
    max_size=5,
)
memory = st.integers(0, 2**34)
faults = st.builds(
    FaultReport,
    listening_since=st.integers(1, 3),
    xids=st.none()
    | st.dictionaries(st.sampled_from([13, 31, 43, 45, 48, 68, 79, 94]), st.integers(1, 5), max_size=4),
    ecc_uncorrected=st.none() | st.integers(0, 5),
    remap_pending=st.none() | st.booleans(),
    remap_failed=st.none() | st.booleans(),
    retirement_pending=st.none() | st.booleans(),
)


@given(
    found=st.none() | processes,
    own=st.sets(st.sampled_from(CONTAINERS)),
    used=st.none() | memory,
    floor=st.none() | memory,
    tolerance=st.integers(0, 2**30),
)
def test_clean_is_what_shows_nothing_of_anybody_else(
    found: list[ProcessReport] | None, own: set[str], used: int | None, floor: int | None, tolerance: int
) -> None:
    held = bool(own)
    clean = leftover(found, own, held=held, memory_used=used, floor=floor, tolerance=tolerance) is None
    nobody_else = found is not None and all(one.container_id in own for one in found)
    back = used is not None and (floor is None or used <= floor + tolerance)
    assert clean == (nobody_else and (held or back))


@given(found=processes, own=st.sets(st.sampled_from(CONTAINERS)), used=memory, floor=memory)
def test_one_more_process_or_more_memory_never_makes_a_device_clean(
    found: list[ProcessReport], own: set[str], used: int, floor: int
) -> None:
    def why(more: list[ProcessReport], bytes_used: int) -> str | None:
        return leftover(more, own, held=bool(own), memory_used=bytes_used, floor=floor, tolerance=256 * MIB)

    if why(found, used) is not None:
        assert why([*found, ProcessReport(pid=1)], used) is not None
        assert why(found, used + MIB) is not None


@given(st.lists(faults, max_size=8))
def test_a_fault_stays_until_an_admin_takes_it_and_is_then_no_news(reports: list[FaultReport]) -> None:
    known: dict[str, Any] = {}
    for report in reports:
        before = known.get("fault")
        known = taken(known, report)
        assert before is None or known["fault"].startswith(before)
        assert taken(known, report) == known, "told once"
        accepted = {name: value for name, value in known.items() if name != "fault"}
        assert "fault" not in taken(accepted, report)


@given(st.lists(faults, max_size=8))
def test_what_applications_do_is_never_a_device_s_fault(reports: list[FaultReport]) -> None:
    known: dict[str, Any] = {}
    for report in reports:
        harmless = {code: count for code, count in (report.xids or {}).items() if code not in DEVICE_XIDS}
        known = taken(known, FaultReport(listening_since=report.listening_since, xids=harmless))
    assert "fault" not in known


@given(
    rate=st.floats(0.9995, 1.0005),
    answers=st.lists(st.tuples(st.floats(0, 30), st.floats(0, 5), st.floats(0, 600)), min_size=1, max_size=5),
)
def test_the_clock_of_a_sample_is_never_ahead_of_the_database_s(
    rate: float, answers: list[tuple[float, float, float]]
) -> None:
    """Whatever an answer takes to come here, and however much faster or slower this machine's clock runs."""
    real = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: 1000.0 + real * rate)
        clock = DatabaseClock()
        assert clock.passed() is None
        for before, way, after in answers:
            real += before
            stamped = EPOCH + timedelta(seconds=real)
            real += way
            clock.heard(stamped)
            assert clock.passed() == stamped
            real += after
            passed = clock.passed()
            assert passed is not None
            now = EPOCH + timedelta(seconds=real)
            assert passed <= now
            assert (now - passed).total_seconds() <= way + after * 0.002 + 3e-6
