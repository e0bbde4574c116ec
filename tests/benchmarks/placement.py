"""P1: how much of a cluster's devices can be given away, against six others, on a public trace.

Protocol: the trace's nodes in random order; its requests shuffled, then drawn again, until those that came ask for
130 % of the devices. Nothing ends and nothing waits: what does not fit is dropped. The figure is the part of all
devices that is allocated then. `--seeds 10` or more is the full run; the data's folder is an argument (see `_openb`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from scheduler.policy.field import Want
from scheduler.policy.placer import Placer
from tests.benchmarks._openb import Trace, amount, load, options
from tests.benchmarks._placers import PEERS, Ledger, Peer

GOAL = 0.90
OURS = "ours"
Policy = Callable[[Ledger, Sequence[tuple[Want, float]], int], Peer | Placer]


def policies() -> dict[str, Policy]:
    found: dict[str, Policy] = {peer.__name__: peer for peer in PEERS}
    found[OURS] = lambda field, typical, _: Placer(field, typical)
    return found


def main() -> None:
    told = options("Placement quality on a public trace.", seeds=3, first=1)
    trace = load(told.data, told.pods)
    if trace is None:
        return
    seeds = range(told.first, told.first + told.seeds)
    print(f"P1, placement: {len(trace.nodes)} nodes, {trace.capacity // 1000} devices, requests of")
    print(
        f"  openb_pod_list_{told.pods} for 130 % of them, {len(seeds)} seeds from {told.first}; 10 are the full run"
    )
    print("              allocated, mean (least to most)   unallocated   of FGD's   decisions/s")
    found, speed = {}, {}
    for name, policy in policies().items():
        found[name], speed[name] = measured(trace, policy, seeds)
        left = 1.0 - statistics.mean(found[name])
        of_fgd = left / (1.0 - statistics.mean(found["FGD"])) if "FGD" in found else None
        print(
            f"  {name:10}  {statistics.mean(found[name]):.2%} ({min(found[name]):.2%} to {max(found[name]):.2%})"
            f"          {left:7.2%}   {f'{of_fgd:.3f}x' if of_fgd else '':>8}   {statistics.mean(speed[name]):11,.0f}",
            flush=True,
        )
    ahead = [mine - theirs for mine, theirs in zip(found[OURS], found["FGD"], strict=True)]
    print(f"  ours against FGD, seed by seed: {', '.join(f'{value:+.2%}' for value in ahead)}")
    ratio = (1.0 - statistics.mean(found[OURS])) / (1.0 - statistics.mean(found["FGD"]))
    print(f"  at least FGD's on every seed: {verdict(min(ahead) >= 0)}")
    print(f"  unallocated {ratio:.3f}x FGD's; goal {GOAL:.2f}x: {verdict(ratio <= GOAL)}")


def measured(trace: Trace, policy: Policy, seeds: Sequence[int]) -> tuple[list[float], list[float]]:
    """Allocated parts and decisions per second, one a seed."""
    parts, speeds = [], []
    typical = trace.typical()
    for seed in seeds:
        field = trace.field(seed)
        placer = policy(field, typical, seed)
        began, allocated, decisions = time.perf_counter(), 0, 0
        for want in trace.arrivals(seed):
            decisions += 1
            place = placer.best(want)
            if place is not None:
                field.take(want, place.node, place.devices)
                allocated += amount(want)
        speeds.append(decisions / (time.perf_counter() - began))
        parts.append(allocated / trace.capacity)
    return parts, speeds


def verdict(met: bool) -> str:
    return "met" if met else "missed"


if __name__ == "__main__":
    main()
