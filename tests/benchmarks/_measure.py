"""What the benchmarks share: medians with their spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def said(values: Sequence[float], unit: str = "ms", scale: float = 1000.0) -> str:
    """Median, and the quartiles around it."""
    ordered = sorted(value * scale for value in values)
    if len(ordered) < 4:
        return f"{statistics.median(ordered):.2f} {unit}"
    low, middle, high = statistics.quantiles(ordered, n=4)
    return f"{middle:.2f} {unit} ({low:.2f} to {high:.2f})"
