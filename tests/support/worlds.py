"""Generated clusters and queues, for whoever makes plans of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from hypothesis import strategies as st

from leasing.gpus import WHOLE, parse_gpu
from scheduler.policy.snapshot import Device, Held, Node, Request, Reserved, Snapshot, Standing, Waiting

SPACE = UUID(int=7)
GIB = 2**30
MODELS = (("A100", 40 * GIB, False), ("H100", 80 * GIB, False), ("A100 MIG 1g.10gb", 10 * GIB, True))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENDS = st.sampled_from([NOW + timedelta(minutes=minutes) for minutes in (-5, 10, 30, 60, 90, 600)])
ASKS = (
    "0",
    "1",
    "2",
    "3",
    "a100",
    "H100:2",
    "0.5",
    "0.3",
    "10GB",
    "60GB",
    "A100:24GB",
    "1g.10gb",
    "1g.10gb:2",
)


@st.composite
def devices(draw: st.DrawFn, number: int, index: int) -> Device:
    model, memory, instance = draw(st.sampled_from(MODELS))
    used = draw(st.sampled_from([0, 0, 0, 250, 500, WHOLE]))
    return Device(
        uuid5(SPACE, f"{number}-{index}"),
        f"GPU-{number}-{index}",
        index,
        model,
        memory,
        share_free=WHOLE - used,
        memory_free_bytes=memory - memory * used // WHOLE,
        instance=instance,
        unfit=draw(st.sampled_from([None, None, None, "lost"])),
    )


@st.composite
def nodes(draw: st.DrawFn, number: int) -> Node:
    return Node(
        uuid5(SPACE, str(number)),
        f"node-{number}",
        draw(st.integers(0, 8000)),
        draw(st.integers(0, 8000)),
        tuple(draw(devices(number, index)) for index in range(draw(st.integers(0, 6)))),
        closed=draw(st.sampled_from([None, None, None, "is cordoned"])),
        labels=draw(st.sampled_from([{}, {"zone": "a"}, {"zone": "b"}])),
    )


@st.composite
def reservations(draw: st.DrawFn, node: Node, number: int) -> Node:
    """The node, some of its devices promised; no device to two at the same time."""
    booked: list[Reserved] = []
    for order in range(draw(st.integers(0, 2)) if node.devices else 0):
        starts = NOW + timedelta(minutes=draw(st.sampled_from([-30, 20, 60, 200])))
        one = Reserved(
            uuid5(SPACE, f"reservation-{number}-{order}"),
            f"reservation-{number}-{order}",
            draw(
                st.frozensets(st.sampled_from([device.id for device in node.devices]), min_size=1, max_size=3)
            ),
            draw(st.sampled_from([0, 500, 3000])),
            draw(st.sampled_from([0, 500, 3000])),
            starts,
            starts + timedelta(minutes=draw(st.sampled_from([45, 300]))),
        )
        if not any(
            one.device_ids & other.device_ids
            and one.starts_at < other.ends_at
            and other.starts_at < one.ends_at
            for other in booked
        ):
            booked.append(one)
    return replace(node, reserved=booked)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    return Request(
        parse_gpu(draw(st.sampled_from(ASKS))), draw(st.integers(1, 4000)), draw(st.integers(1, 4000))
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    cluster = [draw(reservations(draw(nodes(number)), number)) for number in range(draw(st.integers(0, 4)))]
    booked = [one.id for node in cluster for one in node.reserved]
    homes = [None, None, None, *(node.id for node in cluster), uuid5(SPACE, "left")]
    queue = [
        Waiting(
            uuid5(SPACE, f"lease-{number}"),
            f"lease-{number}",
            draw(requests()),
            wait=draw(st.booleans()),
            node_id=draw(st.sampled_from(homes)),
            node_name=draw(st.sampled_from([None, None, None, "node-0"])),
            labels=draw(st.sampled_from([{}, {}, {}, {"zone": "a"}])),
            at_least_seconds=draw(st.sampled_from([None, 900.0])),
            reservation_id=draw(st.sampled_from([None, None, *booked])),
            project=draw(st.sampled_from(["a", "b"])),
            priority=draw(st.sampled_from([0, 0, 0, 1, -1])),
            preemptible=draw(st.booleans()),
            arrival=number,
        )
        for number in range(draw(st.integers(0, 10)))
    ]
    typical = draw(st.lists(st.tuples(requests(), st.floats(0.1, 100)), max_size=4))
    standings = {"a": Standing(draw(st.floats(0, 1e6)), draw(st.sampled_from([0.5, 1.0, 3.0])))}
    return Snapshot(cluster, queue, typical, NOW, standings=standings)


@st.composite
def busy(draw: st.DrawFn) -> Snapshot:
    """With what is held of it: CPUs, memory and devices that were taken come back at deadlines."""
    snapshot = draw(snapshots())
    held = []
    for node in snapshot.nodes:
        for device in node.devices:
            if device.share_free < WHOLE:
                part = (device.id, WHOLE - device.share_free, device.memory_bytes - device.memory_free_bytes)
                held.append(
                    Held(node.id, draw(st.integers(0, 500)), draw(st.integers(0, 500)), [part], draw(ENDS))
                )
        if draw(st.booleans()):
            held.append(Held(node.id, draw(st.integers(0, 4000)), draw(st.integers(0, 4000)), [], draw(ENDS)))
    queue = [
        replace(lease, seconds=draw(st.sampled_from([600.0, 3600.0, 7200.0]))) for lease in snapshot.queue
    ]
    return replace(snapshot, held=held, queue=queue)


def taken(nodes: Sequence[Node], held: Sequence[Held], sign: int) -> list[Node]:
    """The nodes with that given back (1) or taken (-1)."""
    found = {node.id: node for node in nodes}
    for one in held:
        if one.node_id in found:
            found[one.node_id] = found[one.node_id].after(one, sign)
    return list(found.values())


def device(index: int, *, used: int = 0, memory: int = 40 * GIB) -> Device:
    return Device(
        uuid5(SPACE, str(index)),
        f"G{index}",
        index,
        "A100",
        memory,
        WHOLE - used,
        memory - memory * used // WHOLE,
    )


def waiting(ask: str, name: str = "l") -> Waiting:
    return Waiting(uuid5(SPACE, name), name, Request(parse_gpu(ask), 1, 1), wait=True)
