"""How well the demand of the next 24 hours is foretold, against naive forecasts, on a public trace.

Requests of the trace by hour and class of service (its `qos` stands for the environment, which the trace does not
tell). The trace is quiet for months and then busy: the busy part is taken, its first half to choose the model's shape
(`--tune` prints what it was chosen from), the second, held out, to judge it. From an origin every six hours the next 24
hours are foretold with what came before the origin alone (rolling origin; Tashman, Out-of-sample tests of forecasting
accuracy, 2000). The error is the mean absolute one over all origins, hours and series; MASE is that over the error
which "the same hour yesterday" has within the first half (Hyndman and Koehler, Another look at measures of forecast
accuracy, 2006).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from scheduler.policy.demand import DAY, WEEK, Hours, Shape, foretold
from tests.benchmarks._openb import PODS, load, options, rows

HOUR = 3600.0
EVERY = 6
BUSY = 24
"""A day with so many requests and more belongs to the busy part."""
MINIMUM = WEEK
"""So many hours lie before the first origin."""
Forecast = Callable[[Hours, int], Hours]


def last_hour(past: Hours, _: int) -> Hours:
    return np.repeat(past[-1:], DAY, axis=0)


def yesterday(past: Hours, _: int) -> Hours:
    return past[-DAY:]


def last_week(past: Hours, _: int) -> Hours:
    return past[-WEEK : len(past) - WEEK + DAY]


def overall_mean(past: Hours, _: int) -> Hours:
    return np.repeat(past.mean(axis=0, keepdims=True), DAY, axis=0)


NAIVE: dict[str, Forecast] = {
    "last hour": last_hour, "same hour yesterday": yesterday, "same hour last week": last_week,
    "overall mean": overall_mean,
}  # fmt: skip


def series(folder: Path, pods: str) -> tuple[Hours, Sequence[str], int]:
    """Requests and devices by hour and class, of the busy part; the names; and its first hour of the week."""
    tasks = rows(folder / PODS.format(pods))
    at = np.array([float(row["creation_time"]) for row in tasks])
    days = np.bincount((at // (DAY * HOUR)).astype(int))
    busy = np.flatnonzero(days >= BUSY)
    begin, end = busy[0] * DAY, (busy[-1] + 1) * DAY
    kinds = sorted({row["qos"] for row in tasks})
    counts = np.zeros((end - begin, 2 * len(kinds)))
    for row, when in zip(tasks, at // HOUR, strict=True):
        if begin <= when < end:
            column = 2 * kinds.index(row["qos"])
            devices = int(row["num_gpu"]) * (int(row["gpu_milli"]) / 1000 if row["num_gpu"] == "1" else 1.0)
            counts[int(when) - begin, column : column + 2] += (1.0, devices)
    common = [column for column in range(counts.shape[1]) if counts[:, column].sum() >= len(counts) / 10]
    names = [f"{kinds[column // 2]} {('requests', 'devices')[column % 2]}" for column in common]
    return counts[:, common], names, int(begin % WEEK)


def errors(counts: Hours, first: int, origins: Sequence[int], forecast: Forecast) -> Hours:
    """Absolute errors: origins × hours × series."""
    return np.array(
        [np.abs(forecast(counts[:origin], first) - counts[origin : origin + DAY]) for origin in origins]
    )


def main() -> None:
    told = options("Demand on a public trace.", tune=0)
    if load(told.data, told.pods) is None:
        return
    counts, names, first = series(told.data, told.pods)
    middle = len(counts) // 2
    chosen = range(MINIMUM, middle - DAY + 1, EVERY)
    held_out = range(middle, len(counts) - DAY + 1, EVERY)
    if told.tune:
        tune(counts[:middle], first, chosen)
        return
    scale = np.abs(counts[DAY:middle] - counts[: middle - DAY]).mean(axis=0)
    print(f"Demand of the next 24 hours: {len(counts) // DAY} days of {PODS.format(told.pods)}")
    print(f"  {len(held_out)} origins in the second half, held out; {', '.join(names)}")
    print(f"  {'':22}{'MAE':>8}{'MASE':>8}   MAE of each series")
    found: dict[str, float] = {}
    for name, forecast in (NAIVE | {"ours": foretold}).items():
        each = errors(counts, first, held_out, forecast).mean(axis=(0, 1))
        found[name] = float((each / scale).mean())
        print(f"  {name:22}{each.mean():8.3f}{found[name]:8.3f}   {' '.join(f'{one:.3f}' for one in each)}")
    ours = found.pop("ours")
    best = min(found, key=lambda name: found[name])
    outcome = "better" if ours < found[best] else "worse"
    print(f"  ours {ours / found[best]:.3f}x the MASE of the best naive one ({best}): {outcome}")


def tune(counts: Hours, first: int, origins: Sequence[int]) -> None:
    """Shapes on the first half, the best first."""
    scale = np.abs(counts[DAY:] - counts[:-DAY]).mean(axis=0)
    tried = []
    for half_life, of_day, of_week, lately, carried, fading in itertools.product(
        (3, 7, 14), (8, 16, 32), (4, 16), (3, 6, 12), (0.3, 0.5, 0.8), (0.8, 0.9, 0.95)
    ):
        shape = Shape(half_life, of_day, of_week, lately, carried, fading)
        found = errors(counts, first, origins, partial(foretold, shape=shape))
        tried.append((float((found.mean(axis=(0, 1)) / scale).mean()), shape))
    for mase, shape in sorted(tried, key=lambda one: one[0])[:15]:
        print(f"  {mase:.4f}  {shape}")


if __name__ == "__main__":
    main()
