"""Pictures of the scheduling document: small worlds played through by the planner itself, drawn lease by lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from html import escape
from uuid import UUID, uuid5

from leasing.gpus import WHOLE, parse_gpu
from scheduler.policy.planner import plan
from scheduler.policy.snapshot import (
    EPOCH,
    Device,
    Held,
    Node,
    Placement,
    Request,
    Reserved,
    Snapshot,
    Waiting,
    Yielding,
)

SPACE = UUID(int=11)
GIB = 2**30
COLOURS = {"red": "#c2410c", "blue": "#1d4ed8", "green": "#15803d"}
LEFT, TOP, ROW, HOUR, BOTTOM = 190, 34, 30, 96, 26


@dataclass(frozen=True)
class Asked:
    """Who comes when (hours), for what, for how long."""

    name: str
    at: float
    gpu: str
    hours: float
    colour: str = "blue"
    priority: int = 0
    preemptible: bool = False
    at_least: float = 0.5


@dataclass
class Row:
    """A lease's life: spans of waiting and running in hours, and where it ran."""

    asked: Asked
    waits: list[tuple[float, float]] = field(default_factory=list)
    runs: list[tuple[float, float, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Scene:
    title: str
    gpus: int
    asked: Sequence[Asked]
    booked: Sequence[tuple[str, float, float, Sequence[int]]] = ()


SCENES = {
    "backfill": Scene(
        "Four GPUs. “sweep” waits for all of them; who delays it waits behind it, who does not goes ahead.",
        4,
        [
            Asked("train: 3 × 2h", 0, "3", 2),
            Asked("sweep: 4 × 1h", 0.25, "4", 1, "red"),
            Asked("short: 1 × 1h", 0.5, "1", 1, "green"),
            Asked("long: 1 × 3h", 0.5, "1", 3, "green"),
        ],
    ),
    "fair-share": Scene(
        "Two GPUs. Red asks for six at once, blue comes later with three: they take turns.",
        2,
        [
            *(Asked(f"red {number}: 1 × 1h", 0, "1", 1, "red") for number in range(1, 7)),
            *(Asked(f"blue {number}: 1 × 1h", 0.5, "1", 1) for number in range(1, 4)),
        ],
    ),
    "preemption": Scene(
        "Four GPUs full of preemptible leases. “urgent” needs two: the youngest two rest meanwhile, and go on.",
        4,
        [
            *(
                Asked(f"batch {number}: 1 × 4h", number / 4, "1", 4, "green", preemptible=True)
                for number in range(4)
            ),
            Asked("urgent: 2 × 1h", 1.5, "2", 1, "red"),
        ],
    ),
    "reservation": Scene(
        "Two GPUs, both booked from 2h to 4h. A walk-in may use one until then, and whoever is not cut waits.",
        2,
        [
            Asked("walk-in: 1 × 4h", 0, "1", 4),
            Asked("whole: 1 × 3h", 0.5, "1", 3, "red", at_least=3),
        ],
        [("talk", 2, 4, (0, 1))],
    ),
}


def played(scene: Scene) -> list[Row]:
    """The scene, planned at every moment at which something changes; everybody stays to the deadline."""
    node = Node(
        uuid5(SPACE, "node"),
        "gpu1",
        64_000,
        256 * GIB,
        [
            Device(uuid5(SPACE, str(number)), f"GPU-{number}", number, "A100", 40 * GIB, WHOLE, 40 * GIB)
            for number in range(scene.gpus)
        ],
    )
    node = replace(
        node,
        reserved=[
            Reserved(
                uuid5(SPACE, name), name, frozenset(node.devices[one].id for one in which), 0, 0, _at(begins), _at(ends)
            )
            for name, begins, ends, which in scene.booked
        ],
    )  # fmt: skip
    rows = {uuid5(SPACE, one.name): Row(one) for one in scene.asked}
    left = {lease_id: row.asked.hours for lease_id, row in rows.items()}
    coming = sorted(rows, key=lambda one: rows[one].asked.at)
    arrivals = {lease_id: number for number, lease_id in enumerate(coming)}
    since: dict[UUID, float] = {}
    running: dict[UUID, tuple[Placement, Held, float]] = {}
    hour = 0.0
    while True:
        for lease_id, (placement, held, began) in list(running.items()):
            if held.until <= _at(hour):
                node = node.after(held, 1)
                rows[lease_id].runs.append((began, hour, _where(placement)))
                del running[lease_id]
        while coming and rows[coming[0]].asked.at <= hour:
            since[coming.pop(0)] = hour
        queue = [_waiting(lease_id, rows[lease_id].asked, left[lease_id], arrivals) for lease_id in since]
        agreed = [
            Yielding(lease_id, rows[lease_id].asked.name, held, "", rows[lease_id].asked.priority, _at(began))
            for lease_id, (_, held, began) in running.items()
            if rows[lease_id].asked.preemptible
        ]
        made = plan(
            Snapshot(
                [node], queue, at=_at(hour), held=[held for _, held, _ in running.values()], yielding=agreed
            )
        )
        for placement in made.placements:
            lease_id = placement.lease.id
            rows[lease_id].waits.append((since.pop(lease_id), hour))
            held = placement.held(placement.until(_at(hour)))
            node = node.after(held, -1)
            running[lease_id] = (placement, held, hour)
        for preemption in made.preemptions:
            placement, held, began = running.pop(preemption.victim.id)
            node = node.after(held, 1)
            rows[preemption.victim.id].runs.append((began, hour, _where(placement)))
            left[preemption.victim.id] -= hour - began
            since[preemption.victim.id] = hour
        if made.preemptions:
            continue
        moments = [
            *(rows[one].asked.at for one in coming),
            *(_hours(held.until) for _, held, _ in running.values()),
            *(bound for _, begins, ends, _ in scene.booked for bound in (begins, ends) if since),
        ]
        later = [moment for moment in moments if moment > hour]
        if not later:
            return list(rows.values())
        hour = min(later)


def _waiting(lease_id: UUID, asked: Asked, hours: float, arrivals: dict[UUID, int]) -> Waiting:
    return Waiting(
        lease_id,
        asked.name,
        Request(parse_gpu(asked.gpu), 1000, GIB),
        wait=True,
        seconds=hours * 3600,
        at_least_seconds=asked.at_least * 3600,
        project=asked.colour,
        priority=asked.priority,
        preemptible=asked.preemptible,
        arrival=arrivals[lease_id],
    )


def _at(hours: float) -> datetime:
    return EPOCH + timedelta(hours=hours)


def _hours(moment: datetime) -> float:
    return (moment - EPOCH).total_seconds() / 3600


def _where(placement: Placement) -> str:
    return _gpus([grant.device.index for grant in placement.grants])


def _gpus(indices: Sequence[int]) -> str:
    named = f"{indices[0]}–{indices[-1]}" if len(indices) > 1 else str(indices[0])
    return f"GPU {named}"


def picture(scene: Scene) -> str:
    """The scene as an SVG."""
    rows = played(scene)
    hours = max([end for row in rows for _, end, _ in row.runs] + [ends for _, _, ends, _ in scene.booked])
    width = round(LEFT + hours * HOUR + 20)
    height = TOP + ROW * (len(rows) + len(scene.booked)) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"',
        'font-family="system-ui, sans-serif" font-size="12">',
        f"<title>{escape(scene.title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for hour in range(int(hours) + 1):
        x = LEFT + hour * HOUR
        parts.append(f'<path d="M{x} {TOP - 8}V{height - BOTTOM}" stroke="#d4d4d8"/>')
        parts.append(f'<text x="{x}" y="{TOP - 14}" text-anchor="middle" fill="#52525b">{hour}h</text>')
    for number, (name, begins, ends, which) in enumerate(scene.booked):
        y = TOP + number * ROW
        parts.append(f'<text x="12" y="{y + 19}" fill="#18181b">reservation {escape(name)}</text>')
        parts += _bar(begins, ends, y, "#71717a", _gpus(which))
    for number, row in enumerate(rows, start=len(scene.booked)):
        y, colour = TOP + number * ROW, COLOURS[row.asked.colour]
        parts.append(f'<text x="12" y="{y + 19}" fill="#18181b">{escape(row.asked.name)}</text>')
        for begins, ends in row.waits:
            if ends > begins:
                parts.append(
                    f'<rect x="{LEFT + begins * HOUR:g}" y="{y + 11}" width="{(ends - begins) * HOUR:g}" height="8" '
                    f'fill="none" stroke="{colour}" stroke-dasharray="4 3"/>'
                )
        for begins, ends, where in row.runs:
            parts += _bar(begins, ends, y, colour, where)
    parts.append(
        f'<text x="12" y="{height - 8}" fill="#52525b">dashed: waits; filled: runs, on which devices</text>'
    )
    return "\n".join([*parts, "</svg>", ""])


def _bar(begins: float, ends: float, y: int, colour: str, said: str) -> list[str]:
    x, wide = LEFT + begins * HOUR, (ends - begins) * HOUR
    bar = f'<rect x="{x:g}" y="{y + 4}" width="{wide:g}" height="22" rx="3" fill="{colour}"/>'
    text = f'<text x="{x + 8:g}" y="{y + 19}" fill="#ffffff">{escape(said)}</text>'
    return [bar, text] if len(said) * 7 + 8 < wide else [bar]
