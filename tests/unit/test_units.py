"""What people type."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasing import gpus, names, units
from leasing.errors import Invalid, LeasingError

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("4h", 14400), ("1h30m", 5400), ("2d", 172800), ("1.5h", 5400)],
)
def test_durations(text: str, seconds: int) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "4", "h", "-4h", "4 h", "4hours", "1e3h", "0s", "400d", "٣h", "9" * 50 + "h"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Invalid):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("512M", 2**29), ("16G", 2**34), ("1.5GiB", 3 * 2**29), ("24GB", 24 * 2**30), ("7", 7)]
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "1 000M", "1X", "0", "9" * 30, "inf", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Invalid):
        units.parse_size(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "1e3", "nan", "0.001"])
def test_what_is_no_number_of_cpus(text: str) -> None:
    with pytest.raises(Invalid):
        units.parse_cpus(text)


@pytest.fixture
def clock_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets this machine's zone for one test."""

    def to(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield to
    monkeypatch.undo()
    time.tzset()


def test_until_is_the_next_such_time(clock_of: Callable[[str], None]) -> None:
    clock_of("UTC")
    assert units.parse_until("18:00", NOW) == NOW.replace(hour=18)
    assert units.parse_until("09:30", NOW).day == 2
    with pytest.raises(Invalid):
        units.parse_until("25:00", NOW)


@pytest.mark.parametrize(
    ("text", "now", "moment"),
    [
        ("2026-07-01T18:00", "2026-03-01T12:00+01:00", "2026-07-01T16:00Z"),
        ("2026-07-01T18:00+05:00", "2026-03-01T12:00+01:00", "2026-07-01T13:00Z"),
        ("2026-01-31", "2026-07-01T12:00+02:00", "2026-01-30T23:00Z"),
        ("18:00", "2026-03-28T20:00+01:00", "2026-03-29T16:00Z"),
        ("18:00", "2026-10-24T20:00+02:00", "2026-10-25T17:00Z"),
        ("02:30", "2026-10-25T02:15+02:00", "2026-10-25T00:30Z"),
        ("02:30", "2026-10-25T02:45+02:00", "2026-10-25T01:30Z"),
        ("02:30", "2026-10-25T02:45+01:00", "2026-10-26T01:30Z"),
        ("02:30", "2026-03-29T01:00+01:00", "2026-03-29T01:30Z"),
    ],
)
def test_a_time_is_read_by_the_offset_of_its_own_day(
    clock_of: Callable[[str], None], text: str, now: str, moment: str
) -> None:
    clock_of("Europe/Berlin")
    assert units.parse_until(text, datetime.fromisoformat(now)) == datetime.fromisoformat(moment)


@given(st.integers(1, units.MAX_DURATION_SECONDS))
def test_a_duration_is_written_so_that_it_reads_back_close(seconds: int) -> None:
    again = units.parse_duration(units.format_duration(seconds))
    assert again <= seconds < again * 1.05 + 60


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    for parse in (
        units.parse_duration,
        units.parse_size,
        units.parse_cpus,
        gpus.parse_gpu,
        names.lease_name,
    ):
        try:
            parse(text)
        except LeasingError:
            continue
    assert names.lease_name(names.made_up())
