"""Tables that a spreadsheet may open: quoted as they must be, and never a formula."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import pytest

from api.sheets import cell, lines
from leasing.cli.usage import local_zone


@dataclass
class Row:
    name: str
    seconds: float | None


@pytest.mark.parametrize("hostile", ["=1+1", "+1", "-2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1"])
def test_what_begins_like_a_formula_is_text(hostile: str) -> None:
    assert cell(hostile) == f"'{hostile}"


def test_everything_else_is_written_as_it_is() -> None:
    assert [cell(one) for one in ("train-1", "a=b", "", None, 0.0, 1.5, 3600.0, 7)] == [
        "train-1", "a=b", "", "", "0", "1.5", "3600", "7",
    ]  # fmt: skip


def test_many_lines_come_in_pieces_and_whole() -> None:
    rows = [Row(f'a "b", {number}', None if number % 2 else number / 4) for number in range(2500)]
    pieces = list(lines(["name", "seconds"], rows))
    assert len(pieces) == 3
    found = list(csv.reader(io.StringIO("".join(pieces))))
    assert found[0] == ["name", "seconds"]
    assert found[2:4] == [['a "b", 1', ""], ['a "b", 2', "0.5"]]
    assert len(found) == 2501


@pytest.mark.parametrize(
    ("said", "zone"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        (":America/New_York", "America/New_York"),
        ("CET-1CEST,M3.5.0", "UTC"),
    ],
)
def test_months_and_days_are_those_of_this_machines_zone(
    monkeypatch: pytest.MonkeyPatch, said: str, zone: str
) -> None:
    monkeypatch.setenv("TZ", said)
    assert local_zone() == zone
