"""What came of a storm, for people and for programs."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from tests.chaos.storm import Storm
from tests.chaos.watch import alike

SHOWN = 10
ODD = re.compile(r"^(?:\S+ \S+ (?:ERROR|CRITICAL) \w+ (.*)|(\w[\w.]*(?:Error|Exception|Assertion\w*): .*))$")


def facts(storm: Storm, seed: int) -> dict[str, Any]:
    """Everything, as JSON has it. Times in seconds."""
    tally, watch, people = storm.tally, storm.watch, storm.people
    return {
        "seed": seed,
        "seconds": round(tally.seconds, 1),
        "steps": tally.steps,
        "looks": watch.looks,
        "operations": dict(people.done.most_common()),
        "answers": dict(people.ledger.answers.most_common()),
        "faults": dict(tally.faults.most_common()),
        "faults_per_minute": round(60 * tally.faults.total() / tally.seconds, 1) if tally.seconds else None,
        "endpoints_asked": watch.visitor.asked,
        "leases": len(people.ledger.made),
        "converged": {kind: spread(times) for kind, times in tally.converged.items()},
        "waited_for": {
            what: round(seconds, 1)
            for what, seconds in sorted(watch.waited.items(), key=lambda one: -one[1])[:SHOWN]
        },
        "odd_lines": dict(odd(storm._world.root).most_common(SHOWN)),
        "violations": [
            {"seed": seed, "step": one.step, "what": one.what, "actions": one.actions}
            for one in watch.violations
        ],
    }


def spread(times: list[float]) -> dict[str, float]:
    """Median, 95th hundredth and the longest."""
    ordered = sorted(times)
    return {
        "times": len(ordered),
        "median": round(median(ordered), 2),
        "p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 2),
        "max": round(ordered[-1], 2),
    }


def odd(root: Path) -> Counter[str]:
    """Errors that the parts wrote, without what differs from one to the next: none of them need be one."""
    found: Counter[str] = Counter()
    for log in root.glob("*.log"):
        for line in log.read_text(errors="replace").splitlines():
            if match := ODD.match(line):
                found[f"{log.stem}: {alike(match[1] or match[2])}"] += 1
    return found


def text(said: dict[str, Any]) -> str:
    """For a terminal."""
    lines = [
        "",
        f"Seed {said['seed']}: {said['steps']} steps in {said['seconds']:.0f} s, {said['looks']} looks",
        f"{said['leases']} leases, {said['endpoints_asked']} calls of endpoints",
        "",
        f"Operations ({sum(said['operations'].values())}): {_counts(said['operations'])}",
        f"Answers: {_counts(said['answers'])}",
        f"Faults ({sum(said['faults'].values())}, {said['faults_per_minute']} a minute): {_counts(said['faults'])}",
        "",
        f"{'All is well again, seconds after':40} {'times':>6} {'median':>8} {'p95':>8} {'max':>8}",
    ]
    lines += [
        f"{kind:40} {one['times']:6} {one['median']:8.2f} {one['p95']:8.2f} {one['max']:8.2f}"
        for kind, one in sorted(said["converged"].items())
    ]
    if said["waited_for"]:
        lines += ["", "Seconds waited for, in all:"]
        lines += [f"{seconds:8} {what}" for what, seconds in said["waited_for"].items()]
    if said["odd_lines"]:
        lines += ["", "Errors in the parts' logs:"]
        lines += [f"{count:6} {line}" for line, count in said["odd_lines"].items()]
    lines += ["", f"Violations: {len(said['violations'])}"]
    for one in said["violations"][:SHOWN]:
        lines += [
            "",
            f"seed {one['seed']} step {one['step']}: {one['what']}",
            *(f"    {a}" for a in one["actions"]),
        ]
    return "\n".join(lines)


def _counts(counted: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counted.items()) or "none"
