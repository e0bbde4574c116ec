"""The public trace of a GPU-sharing cluster that the placement benchmarks replay: 1,213 nodes, 6,212 devices.

It is `cluster-trace-gpu-v2023` of https://github.com/alibaba/clusterdata: the files `openb_node_list_gpu_node.csv` and
`openb_pod_list_*.csv`. Nothing but these benchmarks reads it.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scheduler.policy.field import WHOLE, FieldDevice, Want
from tests.benchmarks._placers import Ledger

MIB = 2**20
COVERED = 0.95
"""Typical requests are the most frequent kinds that make up this part of all."""
NODES, PODS = "openb_node_list_gpu_node.csv", "openb_pod_list_{}.csv"


@dataclass(frozen=True)
class Node:
    """A machine of the trace, with devices of one model."""

    cpus_millis: int
    memory_bytes: int
    devices: int
    model: int


@dataclass(frozen=True)
class Trace:
    """What came, in the trace's order, to which nodes. `seconds` is how long each request's task was there."""

    nodes: tuple[Node, ...]
    wants: tuple[Want, ...]
    seconds: tuple[float, ...]

    @property
    def capacity(self) -> int:
        """Thousandths of devices."""
        return WHOLE * sum(node.devices for node in self.nodes)

    def field(self, seed: int) -> Ledger:
        """The cluster with nothing on it, its nodes in the order of the seed: the first node wins ties."""
        nodes = random.Random(f"nodes {seed}").sample(self.nodes, len(self.nodes))
        return Ledger(
            [node.cpus_millis for node in nodes],
            [node.memory_bytes for node in nodes],
            [[FieldDevice(node.model)] * node.devices for node in nodes],
        )

    def arrivals(self, seed: int, load: float = 1.3) -> Iterator[Want]:
        """The requests shuffled, then drawn again, until what was asked for reaches `load` times the capacity."""
        dice, asked, target = random.Random(f"arrivals {seed}"), 0, load * self.capacity
        wants = dice.sample(self.wants, len(self.wants))
        while True:
            want = wants.pop() if wants else dice.choice(self.wants)
            asked += amount(want)
            yield want
            if asked >= target:
                return

    def typical(self, part: float = COVERED) -> list[tuple[Want, float]]:
        """The most frequent kinds of request, that make up this part, with their weights; memory is left out."""
        kinds = Counter(
            Want(want.cpus_millis, 0, want.count, want.share, models=want.models) for want in self.wants
        )
        ranked = sorted(
            kinds.items(),
            key=lambda item: (item[1], item[0].cpus_millis, item[0].share, item[0].count),
            reverse=True,
        )
        kept: list[tuple[Want, int]] = []
        covered = 0
        for want, number in ranked:
            kept.append((want, number))
            covered += number
            if covered >= part * len(self.wants):
                break
        return [(want, number / covered) for want, number in kept]


def amount(want: Want) -> int:
    """Thousandths of devices that the request takes."""
    return want.count * want.share


def options(description: str, **numbers: int) -> argparse.Namespace:
    """What a placement benchmark is told on the command line: where the trace is, and `numbers` by their names."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "data",
        nargs="?",
        type=Path,
        default=Path(os.environ.get("LEASING_BENCH_DATA", "../shared/data/openb")),
        help="folder with the trace's files",
    )
    parser.add_argument("--pods", default="default", help="which list of requests: openb_pod_list_PODS.csv")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def load(folder: Path, pods: str = "default") -> Trace | None:
    """The trace; None, having said where to get it, if it is not there."""
    if not (folder / NODES).exists():
        print(f"No trace in {folder}: take {NODES} and {PODS.format(pods)} from cluster-trace-gpu-v2023 of")
        print("https://github.com/alibaba/clusterdata, and name their folder (or set LEASING_BENCH_DATA).")
        return None
    machines, tasks = rows(folder / NODES), rows(folder / PODS.format(pods))
    models = {name: number for number, name in enumerate(sorted({row["model"] for row in machines}))}
    nodes = tuple(
        Node(int(row["cpu_milli"]), int(row["memory_mib"]) * MIB, int(row["gpu"]), models[row["model"]])
        for row in machines
    )
    return Trace(
        nodes,
        tuple(wanted(row, models) for row in tasks),
        tuple(float(row["deletion_time"]) - float(row["creation_time"]) for row in tasks),
    )


def rows(path: Path) -> Sequence[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def wanted(row: dict[str, str], models: dict[str, int]) -> Want:
    count = int(row["num_gpu"])
    named = row["gpu_spec"].split("|") if row["gpu_spec"] else None
    return Want(
        int(row["cpu_milli"]),
        int(row["memory_mib"]) * MIB,
        count,
        # a share is given for one device only; of several each is taken whole
        0 if count == 0 else int(row["gpu_milli"]) if count == 1 else WHOLE,
        models=None if named is None else frozenset(models[name] for name in named if name in models),
    )
