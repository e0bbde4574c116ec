"""Recorded utilisation as idle gaps: `pod, seconds, duty_percent`, one sample a minute, as `lease admin policy samples`
prints it and as public traces can be written."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

FILE = "gpu_duty.csv"
BREAK_SECONDS = 600.0
"""Samples that lie further apart belong to two runs."""


@dataclass(frozen=True, order=True)
class Gap:
    """No duty from `begin` on for `seconds`: from the first sample without any to the first with some again, or, if
    `ended` is false, to the last of its run."""

    begin: float
    pod: str
    seconds: float
    ended: bool

    @property
    def end(self) -> float:
        return self.begin + self.seconds


def read(path: Path) -> tuple[list[Gap], float]:
    """The gaps of every pod, as they began, and when the record ends. `path` is the file or its folder."""
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with (path / FILE if path.is_dir() else path).open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            series[row["pod"]].append((float(row["seconds"]), float(row["duty_percent"])))
    found: list[Gap] = []
    for pod, samples in series.items():
        samples.sort()
        found += _gaps(pod, samples)
    last = max(samples[-1][0] for samples in series.values())
    return sorted(gap for gap in found if gap.seconds > 0), last


def _gaps(pod: str, samples: list[tuple[float, float]]) -> list[Gap]:
    found: list[Gap] = []
    begin: float | None = None
    before = samples[0][0]
    for at, duty in samples:
        if at - before > BREAK_SECONDS:
            if begin is not None:
                found.append(Gap(begin, pod, before - begin, ended=False))
            begin = None
        if duty <= 0 and begin is None:
            begin = at
        elif duty > 0 and begin is not None:
            found.append(Gap(begin, pod, at - begin, ended=True))
            begin = None
        before = at
    if begin is not None:
        found.append(Gap(begin, pod, before - begin, ended=False))
    return found
