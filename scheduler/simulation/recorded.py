"""A platform's own record as a world: what `GET /api/v1/history` tells, or a file of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import uuid5

from pydantic import ValidationError

from leasing.errors import Invalid
from leasing.gpus import WHOLE, GpuAsk
from leasing.schema.base import Wire
from leasing.schema.history import HistoryLease, HistoryNode, HistoryPage, HistoryProject
from leasing.states import LeaseState
from scheduler.policy.snapshot import Device, Node, Request
from scheduler.simulation.world import SPACE, Asked, World

KINDS: Mapping[str, type[Wire]] = {"node": HistoryNode, "project": HistoryProject, "lease": HistoryLease}
"""What a line of a file may be; its first line says of which time it is."""
HEAD = "history"
Model = TypeVar("Model", bound=Wire)


def lines(pages: Iterable[HistoryPage]) -> Iterator[str]:
    """A record as JSON lines, to be kept in a file."""
    for number, page in enumerate(pages):
        if not number:
            yield json.dumps({"kind": HEAD, "since": page.since.isoformat(), "until": page.until.isoformat()})
        for kind, items in (("node", page.nodes), ("project", page.projects), ("lease", page.items)):
            for item in items:
                yield json.dumps({"kind": kind, **item.model_dump(mode="json")})


def read(text: Iterable[str]) -> HistoryPage:
    """Back from a file's lines, as one page. Raises `Invalid`, which names the line."""
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    since = until = None
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        kind, fields = _line(number, line)
        if kind == HEAD:
            since, until = (_moment(number, fields, name) for name in ("since", "until"))
        else:
            found[kind].append(_item(number, KINDS[kind], fields))
    if since is None or until is None:
        raise Invalid("There is no line that says of which time the record is.", hint=HOW)
    return HistoryPage(
        since=since,
        until=until,
        nodes=found["node"],
        projects=found["project"],
        items=found["lease"],
        next=None,
    )


HOW = "Write one with: lease admin history > FILE"


def _line(number: int, line: str) -> tuple[str, dict[str, Any]]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise Invalid(f"Line {number} is not JSON: {error}.", hint=HOW) from None
    kind = str(fields.pop("kind", None)) if isinstance(fields, dict) else ""
    if kind != HEAD and kind not in KINDS:
        raise Invalid(f"Line {number} is none of {', '.join([HEAD, *KINDS])}.", hint=HOW)
    return kind, fields


def _item(number: int, model: type[Model], fields: dict[str, Any]) -> Model:
    if unknown := fields.keys() - model.model_fields.keys():
        raise Invalid(f"Line {number} has a field that is not known: {min(unknown)}.", hint=HOW)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"Line {number}, {where}: {first['msg']}.", hint=HOW) from None


def _moment(number: int, fields: dict[str, Any], name: str) -> datetime:
    try:
        found = datetime.fromisoformat(fields[name])
    except (KeyError, TypeError, ValueError):
        raise Invalid(f"Line {number} does not say {name} in ISO form.", hint=HOW) from None
    if found.tzinfo is None:
        raise Invalid(f"Line {number}: {name} names no time zone.", hint=HOW)
    return found


def world(pages: Iterable[HistoryPage]) -> World:
    """The record as a world. Raises `Invalid` if nothing of it can be played."""
    read_pages = list(pages)
    nodes = [_node(node) for page in read_pages for node in page.nodes]
    leases = [lease for page in read_pages for lease in page.items]
    if not read_pages or not leases or not nodes:
        raise Invalid(
            "Nothing is recorded yet." if not leases else "The record holds no node.",
            hint="Try a public trace meanwhile: lease admin simulate --trace FOLDER (see docs/operations.md).",
        )
    until = read_pages[0].until
    asked = [one for lease in leases if (one := _asked(lease)) is not None]
    return World(
        nodes=nodes,
        asked=sorted(asked, key=lambda one: one.at),
        weights={project.name: project.weight for page in read_pages for project in page.projects},
        begins=read_pages[0].since.timestamp(),
        ends=until.timestamp(),
        notes=_notes(leases),
    )


def _notes(leases: Sequence[HistoryLease]) -> list[str]:
    fates = Counter(
        "never" if lease.placed_at is None and lease.state == LeaseState.ENDED
        else "queued" if lease.placed_at is None
        else "live" if lease.state != LeaseState.ENDED
        else "over"
        for lease in leases
    )  # fmt: skip
    notes = {
        "never": "never had a place and are left out: how long they would have run is not known",
        "queued": "wait now: taken to run as long as they asked for",
        "live": "are not over yet: taken to run as long as they asked for, if they have not run longer",
    }
    return [f"{fates[fate]} {words}" for fate, words in notes.items() if fates[fate]]


def _asked(lease: HistoryLease) -> Asked | None:
    over = lease.state == LeaseState.ENDED
    if over and lease.placed_at is None:
        return None
    ran = lease.held_seconds if over else max(lease.held_seconds, float(lease.seconds))
    quiet = None
    if over and lease.idle_since is not None and lease.ended_at is not None:
        quiet = max(0.0, (lease.ended_at - lease.idle_since).total_seconds())
    share = WHOLE if lease.gpu_memory_bytes is not None else lease.gpu_share
    return Asked(
        id=lease.id,
        name=lease.name,
        owner=lease.owner,
        project=lease.project,
        environment=lease.image,
        request=Request(
            GpuAsk(lease.gpu_count, lease.gpu_model, share, lease.gpu_memory_bytes),
            lease.cpus_millis,
            lease.memory_bytes,
        ),
        share=lease.gpu_share,
        at=lease.asked_at.timestamp(),
        asked_seconds=float(lease.seconds),
        ran_seconds=max(1.0, ran),
        quiet_seconds=quiet,
        priority=lease.priority,
        preemptible=lease.preemptible,
        wait=lease.wait,
        node_name=lease.node,
        labels=lease.labels,
        waited_seconds=(lease.placed_at - lease.asked_at).total_seconds() if lease.placed_at else None,
    )


def _node(node: HistoryNode) -> Node:
    return Node(
        id=uuid5(SPACE, node.name),
        name=node.name,
        cpus_free_millis=node.cpus_millis,
        memory_free_bytes=node.memory_bytes,
        devices=tuple(
            Device(
                id=uuid5(SPACE, f"{node.name} {device.uuid}"),
                uuid=device.uuid,
                index=device.index,
                model=device.model,
                memory_bytes=device.memory_bytes,
                share_free=WHOLE,
                memory_free_bytes=device.memory_bytes,
                instance=device.instance,
                unfit=None if device.open else "cordoned or faulty",
            )
            for device in node.devices
        ),
        closed=None if node.open else "is cordoned",
        labels=node.labels,
        links={frozenset((one, other)): rank for one, other, rank in node.links},
    )
