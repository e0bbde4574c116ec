"""Who is served first: higher classes, then projects that have had least of their part, then who came first.

Within a class those that cannot be preempted come before those that can. Between projects the rule is weighted fair
queueing (Demers, Keshav and Shenker, 1989) over what each has used, older use counting for less: the next is always the
oldest lease of the project with the least use for its weight, and what it asks for is then counted as used.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from datetime import datetime

from scheduler.policy.snapshot import Standing, Waiting


def in_order(
    queue: Sequence[Waiting], standings: Mapping[str, Standing], at: datetime, *, fair_share: bool = True
) -> list[Waiting]:
    """The queue as it is served."""
    classes: dict[tuple[int, bool], list[Waiting]] = defaultdict(list)
    for lease in queue:
        classes[-lease.priority, lease.preemptible].append(lease)
    served: list[Waiting] = []
    charged: dict[str, float] = defaultdict(float)
    for _, members in sorted(classes.items()):
        members.sort(key=lambda lease: lease.arrival)
        served += _fairly(members, standings, charged, at) if fair_share else members
    return served


def _fairly(
    members: Sequence[Waiting],
    standings: Mapping[str, Standing],
    charged: dict[str, float],
    at: datetime,
) -> list[Waiting]:
    projects: dict[str, deque[Waiting]] = defaultdict(deque)
    for lease in members:
        projects[lease.project].append(lease)
    served: list[Waiting] = []
    while len(projects) > 1:
        project = min(projects, key=lambda name: (_use(name, standings, charged), projects[name][0].arrival))
        lease = projects[project].popleft()
        charged[project] += lease.request.worth * max(0.0, (lease.end(at) - at).total_seconds())
        served.append(lease)
        if not projects[project]:
            del projects[project]
    for rest in projects.values():
        served += rest
    return served


def _use(project: str, standings: Mapping[str, Standing], charged: Mapping[str, float]) -> float:
    standing = standings.get(project, Standing())
    return (standing.used_device_seconds + charged.get(project, 0.0)) / standing.weight
