"""How much idle time the learned window returns, against fixed ones, on recorded utilisation.

A gap begins with the first sample without duty and ends with the first that has some. A window returns what is left
of each gap that is longer, less five minutes for waking it again, also at the end of the record where nobody came
back; the figure is that over all idle time. The oracle knows how long each gap will be. Ours is the scheduler's own
`scheduler.policy.windows`, with the gaps of all pods that had ended before a gap begins, and nothing later; as in the
scheduler a window is learned anew every five minutes. What it had to be told, how long the past counts, was chosen on
the first third of the record's time alone (`--tune` prints from what), and the rest of the record is held out for
that: both figures are printed. Most of the pods serve the same callers and are alike, so `--leave-out` plays each pod
with that choice made without it, and the spread over pods is shown. "Then no more" learns nothing after the first
third.

Time is the record's, one sample a minute: a window of 0 takes a pod back at its first sample without duty, which tells
of the minute before. With a floor of one minute more the figure is printed too.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from scheduler.policy.windows import MEMORY, WAKE_SECONDS, Gaps, Memory
from tests.benchmarks._duty import FILE, Gap, read

MINUTE = 60.0
EVERY = 300.0
MOST = 3600.0
START = WAKE_SECONDS
"""The window while nothing is known: as long as a wake-up costs."""
FIXED = (2, 5, 10, 30, 60)
GRID = [Memory(*one) for one in itertools.product((2, 4, 8, 16), (30, 50, 100, 200), (5, 10, 20, 40))]
Returned = dict[Gap, float]


def fixed(gaps: Sequence[Gap], seconds: float) -> Returned:
    return {gap: _returned(gap, seconds) for gap in gaps}


def oracle(gaps: Sequence[Gap]) -> Returned:
    return {gap: max(0.0, gap.seconds - WAKE_SECONDS) for gap in gaps}


def ours(
    gaps: Sequence[Gap], memory: Memory = MEMORY, *, least: float = 0.0, until: float = math.inf
) -> Returned:
    """By windows that are learned as time passes, `until` then. `gaps` are in the order in which they begin."""
    seen = Gaps(memory)
    open_: list[tuple[float, str, float]] = []
    windows: dict[str, float] = {}
    look = 0.0
    found: Returned = {}
    for gap in gaps:
        if gap.begin >= look:
            windows.clear()
            look = (gap.begin // EVERY + 1) * EVERY
            while open_ and open_[0][0] <= min(gap.begin, until):
                _, pod, seconds = heapq.heappop(open_)
                seen.add(pod, seconds)
        if gap.pod not in windows:
            learned = seen.learned(gap.pod, least=least, most=MOST)
            windows[gap.pod] = learned.seconds if learned else max(START, least)
        found[gap] = _returned(gap, windows[gap.pod])
        if gap.ended:
            heapq.heappush(open_, (gap.end, gap.pod, gap.seconds))
    return found


def _returned(gap: Gap, window: float) -> float:
    return gap.seconds - window - WAKE_SECONDS if gap.seconds > window else 0.0


def share(found: Returned, wanted: Callable[[Gap], bool] = lambda _: True) -> float:
    """Of the idle time of those wanted, what was returned."""
    chosen = [gap for gap in found if wanted(gap)]
    idle = sum(gap.seconds for gap in chosen)
    return sum(found[gap] for gap in chosen) / idle if idle else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Idle time returned, on recorded utilisation.")
    default = Path(os.environ.get("LEASING_BENCH_DUTY", "../shared/data/duty"))
    parser.add_argument(
        "data", nargs="?", type=Path, default=default, help=f"folder with {FILE}, or such a file"
    )
    parser.add_argument("--tune", action="store_true", help="what the memory was chosen from")
    parser.add_argument(
        "--leave-out", action="store_true", help="choose the memory anew without each pod: slow"
    )
    told = parser.parse_args()
    if not told.data.exists():
        print(
            f"Nothing recorded in {told.data}: take GPU duty of clusterdata's GenAI trace, or our own record with"
        )
        print(
            "lease admin policy samples --days 14 > samples.csv, and name the file (or set LEASING_BENCH_DUTY)."
        )
        return
    gaps, last = read(told.data)
    third = last / 3

    def fitted(gap: Gap) -> bool:
        return gap.end <= third

    def held_out(gap: Gap) -> bool:
        return gap.begin >= third

    if told.tune:
        for score, memory in sorted(
            ((share(ours(gaps, one), fitted), one) for one in GRID), key=lambda one: -one[0]
        )[:20]:
            print(f"  {score:.4f}  {memory}", flush=True)
        return
    pods = sorted({gap.pod for gap in gaps})
    idle = sum(gap.seconds for gap in gaps) / 3600
    print(f"Idle time returned, less 5 minutes a wake-up: {told.data}")
    print(f"  {len(pods)} pods, {len(gaps)} gaps, {idle:.0f} idle hours in {last / 3600:.1f} hours; {MEMORY}")
    print(f"  {'':24}{'all':>8}{'rest':>8}   of the pods, all: 10 %, median, 90 %")
    played = {f"fixed {minutes} min": fixed(gaps, minutes * MINUTE) for minutes in FIXED}
    played |= {
        "oracle": oracle(gaps),
        "ours": ours(gaps),
        "ours, a minute at least": ours(gaps, least=MINUTE),
        "ours, then no more": ours(gaps, until=third),
    }
    for name, found in played.items():
        print(f"  {name:24}{share(found):8.3f}{share(found, held_out):8.3f}   {_spread(found, pods)}")
    mine, slow = played["ours"], played["fixed 30 min"]
    print(
        f"  ours is {share(mine) / share(slow):.2f}x the fixed 30 min (rest: "
        f"{share(mine, held_out) / share(slow, held_out):.2f}x), goal 2x; {share(mine):.3f}, goal 0.53"
    )
    if told.leave_out:
        left = _left_out(gaps, pods, fitted)
        print(
            f"  ours, memory chosen without the pod played: {share(left):.3f}, rest {share(left, held_out):.3f}"
        )


def _spread(found: Returned, pods: Sequence[str]) -> str:
    shares = [share({gap: value for gap, value in found.items() if gap.pod == pod}) for pod in pods]
    if len(shares) < 3:
        return " ".join(f"{one:.2f}" for one in shares)
    tenths = statistics.quantiles(shares, n=10)
    return f"{tenths[0]:.2f} {statistics.median(shares):.2f} {tenths[-1]:.2f}"


def _left_out(gaps: Sequence[Gap], pods: Sequence[str], fitted: Callable[[Gap], bool]) -> Returned:
    """Each pod with the memory that was best on the first third of all the others."""
    tried = [ours(gaps, memory) for memory in GRID]
    found: Returned = {}
    for pod in pods:
        others = [
            {gap: value for gap, value in one.items() if fitted(gap) and gap.pod != pod} for one in tried
        ]
        chosen = tried[max(range(len(tried)), key=lambda number: share(others[number]))]
        found |= {gap: value for gap, value in chosen.items() if gap.pod == pod}
    return found


if __name__ == "__main__":
    main()
