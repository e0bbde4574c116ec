"""The smallest change to a waiting lease that would start it now, in words of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from leasing.gpus import WHOLE, GpuAsk
from leasing.units import format_duration, format_size
from scheduler.policy.filters import refusals
from scheduler.policy.snapshot import Node, Waiting

SHORTEST_SECONDS = 600
"""Nobody is advised to ask for less time."""
STEP_SECONDS = 300
TIMES = 4
"""So many shorter times are tried, the longest first: until somebody ahead starts, or a reservation begins."""


def advice(
    lease: Waiting,
    nodes: Sequence[Node],
    *,
    at: datetime,
    first_start: datetime | None,
    would_start: Callable[[Waiting], bool],
) -> str | None:
    """A sentence; None when no single change would do. `first_start`: of those ahead, when the first will start."""
    for changed, words in _changes(lease, nodes, at, first_start):
        if would_start(changed):
            return f"it would start now with {words}"
    return None


def _changes(
    lease: Waiting, nodes: Sequence[Node], at: datetime, first_start: datetime | None
) -> Iterator[tuple[Waiting, str]]:
    """From the smallest on; each alone."""
    begins = {one.starts_at for node in nodes for one in node.reserved} | {first_start or at}
    times = {(moment - at).total_seconds() // STEP_SECONDS * STEP_SECONDS for moment in begins}
    asked = (lease.end(at) - at).total_seconds()
    shorter = sorted((seconds for seconds in times if SHORTEST_SECONDS <= seconds < asked), reverse=True)
    for seconds in shorter[:TIMES]:
        yield replace(lease, seconds=seconds, until=None), f"--for {format_duration(seconds)}"
    yield from _smaller(lease, nodes, at)
    for gpu in _gpus(lease.request.gpu):
        yield replace(lease, request=replace(lease.request, gpu=gpu)), f"--gpu {gpu}"


def _smaller(lease: Waiting, nodes: Sequence[Node], at: datetime) -> Iterator[tuple[Waiting, str]]:
    """As many CPUs, or as much memory, as a node has left on which nothing else is in the way."""
    request = lease.request
    few = replace(lease, request=replace(request, cpus_millis=0))
    cpus = (
        max((node.cpus_free_millis for node in nodes if not refusals(few, node, at)), default=0) // 100 * 100
    )
    if 0 < cpus < request.cpus_millis:
        yield replace(lease, request=replace(request, cpus_millis=cpus)), f"--cpus {cpus / 1000:g}"
    little = replace(lease, request=replace(request, memory_bytes=0))
    left = [node.memory_free_bytes for node in nodes if not refusals(little, node, at)]
    memory = max(left, default=0) // 2**28 * 2**28
    if 0 < memory < request.memory_bytes:
        yield replace(lease, request=replace(request, memory_bytes=memory)), f"--memory {format_size(memory)}"


def _gpus(ask: GpuAsk) -> Iterator[GpuAsk]:
    """Another model, fewer, a part."""
    if ask.model is not None and not ask.profile:
        yield replace(ask, model=None)
    for count in range(ask.count - 1, 0, -1):
        yield replace(ask, count=count)
    if ask.count == 1 and ask.whole and not ask.profile:
        yield replace(ask, share=WHOLE // 2)
