"""The public trace of a GPU-sharing cluster as a world, so that a policy can be tried before there is a record.

It is `cluster-trace-gpu-v2023` of https://github.com/alibaba/clusterdata: `openb_node_list_gpu_node.csv` and one of
`openb_pod_list_*.csv` in one folder. It names no owners and no deadlines: the quality class of a task stands for its
project, and a task is taken to have asked for as long as it ran, a day at most, and to be renewed after that.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid5

from leasing.errors import Invalid
from leasing.gpus import WHOLE, GpuAsk
from scheduler.policy.snapshot import Device, Node, Request
from scheduler.simulation.world import SPACE, Asked, World

NODES, PODS = "openb_node_list_gpu_node.csv", "openb_pod_list_{}.csv"
NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = (
    "name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec", "qos", "creation_time", "deletion_time",
)  # fmt: skip
MIB = 2**20
DEVICE_MEMORY = 16 * 2**30
"""The trace does not tell it, and nothing is asked by it there."""
DAY = 86_400.0
HOW = "It is cluster-trace-gpu-v2023 of https://github.com/alibaba/clusterdata."

Row = tuple[int, dict[str, str]]


def world(folder: Path, pods: str = "default") -> World:
    """The trace. Raises `Invalid`, which names the file and the line."""
    nodes = [_node(folder / NODES, row) for row in _rows(folder / NODES, NODE_COLUMNS)]
    path = folder / PODS.format(pods)
    asked = sorted((_asked(path, row) for row in _rows(path, POD_COLUMNS)), key=lambda one: one.at)
    return World(nodes, asked, {}, asked[0].at, asked[-1].at)


def _rows(path: Path, columns: Sequence[str]) -> list[Row]:
    if not path.exists():
        raise Invalid(f"There is no {path}.", hint=HOW)
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise Invalid(f"{path.name} has no column {missing[0]}.", hint=HOW)
        found = [(reader.line_num, row) for row in reader]
    if not found:
        raise Invalid(f"{path.name} is empty.", hint=HOW)
    return found


def _number(path: Path, row: Row, column: str) -> int:
    line, fields = row
    try:
        return int(float(fields[column]))
    except (TypeError, ValueError, OverflowError):
        said = fields[column]
        raise Invalid(f"{path.name}, line {line}: {column} is {said!r}, and no number.", hint=HOW) from None


def _node(path: Path, row: Row) -> Node:
    name, model = row[1]["sn"], row[1]["model"]
    return Node(
        uuid5(SPACE, name),
        name,
        _number(path, row, "cpu_milli"),
        _number(path, row, "memory_mib") * MIB,
        tuple(
            Device(
                uuid5(SPACE, f"{name} {index}"),
                f"GPU-{name}-{index}",
                index,
                model,
                DEVICE_MEMORY,
                WHOLE,
                DEVICE_MEMORY,
            )
            for index in range(_number(path, row, "gpu"))
        ),
        labels={"model": model},
    )


def _asked(path: Path, row: Row) -> Asked:
    fields = row[1]
    count = _number(path, row, "num_gpu")
    share = _number(path, row, "gpu_milli") if count == 1 else WHOLE
    if count < 0 or not (1 <= share <= WHOLE or not count):
        raise Invalid(f"{path.name}, line {row[0]}: nobody can have that much of a device.", hint=HOW)
    model = fields["gpu_spec"].split("|")[0] or None
    at, gone = (float(_number(path, row, column)) for column in ("creation_time", "deletion_time"))
    ran = max(1.0, gone - at)
    return Asked(
        id=uuid5(SPACE, fields["name"]),
        name=fields["name"],
        owner=fields["name"],
        project=fields["qos"] or "none",
        environment="",
        request=Request(
            GpuAsk(count, model, share if count == 1 else WHOLE),
            _number(path, row, "cpu_milli"),
            _number(path, row, "memory_mib") * MIB,
        ),
        share=share if count == 1 else WHOLE,
        at=at,
        asked_seconds=min(ran, DAY),
        ran_seconds=ran,
    )
