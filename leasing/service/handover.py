"""Handing a device over: it is leased anew only once a sample has proven it clean of whoever left it.

A sample proves what was so when NVML was read, which is why it counts only if that was after the device was given back
(`NodeReport.sampled_at`). What a former lease left behind goes away by itself, or the device is quarantined until it
does. A fault of the device's own stays until an admin has seen it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import NotFound
from leasing.model import Device, Node
from leasing.schema.report import DeviceReport, FaultReport, ProcessReport
from leasing.service import events
from leasing.service.principal import Principal
from leasing.settings.handover import HandoverSettings
from leasing.units import format_size

DEVICE_XIDS = {
    48: "double-bit ECC error",
    63: "a row of memory was remapped or a page retired",
    64: "a row of memory could not be remapped or a page not retired",
    74: "NVLink error",
    79: "fell off the bus",
    92: "many single-bit ECC errors",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "its GSP firmware does not answer",
    120: "GSP firmware error",
}
"""Xid errors that are the device's, as NVIDIA's catalogue has them (docs.nvidia.com/deploy/xid-errors). Others are an
application's (13, 31, 43, 45, 68: a fault of its own, a hang, its own cleaning up) and leave nothing behind."""
STATES = {
    "remap_pending": "a row of memory waits for a reset to be remapped",
    "remap_failed": "a row of memory could not be remapped",
    "retirement_pending": "a page of memory waits for a reset to be retired",
}
NOT_LOOKED = "its node's sampler has not looked at it since"


@dataclass(frozen=True)
class Look:
    """A device as one report has it, and what is known of it otherwise.

    `at` is no later than NVML was read. `own` are the containers of those who hold it, and `held` whether anybody does.
    `released_at` is when a part of it was last given back.
    """

    report: DeviceReport
    at: datetime | None
    own: frozenset[str]
    held: bool
    released_at: datetime | None


class Proven(Protocol):
    """A device, by when it was last proven clean."""

    @property
    def cleared_at(self) -> datetime | None: ...


def cleaning(device: Proven, released_at: datetime | None) -> bool:
    """Whether it has not been proven clean since a lease gave it back."""
    return released_at is not None and (device.cleared_at is None or device.cleared_at < released_at)


def leftover(
    processes: Sequence[ProcessReport] | None,
    own: Collection[str],
    *,
    held: bool,
    memory_used: int | None,
    floor: int | None,
    tolerance: int,
) -> str | None:
    """What of a former lease, or of anybody who holds nothing, a sample shows on a device; None: it is clean.

    What cannot be measured proves nothing. While others hold a part of it, its memory tells nothing of who left; a
    device never seen empty before has no `floor` yet, and then its memory is what it needs for itself.
    """
    if processes is None:
        return "NVML does not tell which processes are on it"
    strangers = [one for one in processes if one.container_id is None or one.container_id not in own]
    if strangers:
        first, more = strangers[0], len(strangers) - 1
        name = f" ({first.name})" if first.name else ""
        return f"process {first.pid}{name}{f' and {more} more' if more else ''} {'are' if more else 'is'} still on it"
    if held:
        return None
    if memory_used is None:
        return "NVML does not tell how much of its memory is in use"
    if floor is not None and memory_used > floor + tolerance:
        return f"{format_size(memory_used)} of memory is still in use, its floor is {format_size(floor)}"
    return None


def taken(known: dict[str, Any], report: FaultReport) -> dict[str, Any]:
    """What is known of a device's faults after a report; `fault` says in words which are new and the device's own.

    `fault` stays until an admin takes it out. Errors that were counted before the device was first seen are not news;
    a state that calls for a reset always is.
    """
    kept = dict(known)
    news: list[str] = []
    if report.xids is not None:
        before = known.get("xids", {}) if known.get("since") == report.listening_since else {}
        for code, count in sorted(report.xids.items()):
            if count > before.get(str(code), 0) and code in DEVICE_XIDS:
                news.append(f"Xid {code}: {DEVICE_XIDS[code]}")
        kept["since"] = report.listening_since
        kept["xids"] = {str(code): count for code, count in report.xids.items()}
    if report.ecc_uncorrected is not None:
        more = report.ecc_uncorrected - known.get("ecc", report.ecc_uncorrected)
        if more > 0:
            news.append(f"{more} uncorrected ECC error{'s' if more > 1 else ''}")
        kept["ecc"] = report.ecc_uncorrected
    states = {name: getattr(report, name) for name in STATES}
    before = known.get("states", [])
    news += [STATES[name] for name, now in states.items() if now and name not in before]
    kept["states"] = [name for name, now in states.items() if now or (now is None and name in before)]
    if news:
        kept["fault"] = "; ".join([*([known["fault"]] if "fault" in known else []), *news])[:1000]
    return kept


def take(
    session: Session, node: Node, device: Device, look: Look, *, now: datetime, settings: HandoverSettings
) -> bool:
    """Judge a device by a report. Whether that has just proven it clean, so that somebody may be waiting for it."""
    faults = taken(device.faults, look.report.faults)
    if device.faults != faults:
        device.faults = faults
    if look.report.health != "ok" and "fault" not in faults:
        return False
    waited = cleaning(device, look.released_at)
    found = faults.get("fault") or _found(device, look, settings)
    if found is None and look.at is not None:
        at = min(look.at, now)
        device.cleared_at = at if device.cleared_at is None else max(at, device.cleared_at)
        if not look.held and look.report.memory_used_bytes is not None:
            used = look.report.memory_used_bytes
            device.floor_bytes = used if device.floor_bytes is None else min(used, device.floor_bytes)
        freed = device.quarantined_since is not None
        if freed:
            _tell(session, node, device, "device.cleared", "was found clean and is leased again")
        device.quarantined_since, device.quarantine_reason = None, ""
        return waited or freed
    if found is None:
        return False
    patient = look.released_at is None or now - look.released_at <= timedelta(
        seconds=settings.patience_seconds
    )
    if device.quarantined_since is None and ("fault" in faults or (waited and not patient)):
        device.quarantined_since = now
        _tell(session, node, device, "device.quarantined", f"was quarantined: {found}")
    device.quarantine_reason = found if waited or device.quarantined_since is not None else ""
    return False


def forget_floor(device: Device) -> None:
    """The machine or its driver was started anew: what an empty device uses is to be seen again."""
    device.floor_bytes = None


def clear(session: Session, uuid: str, *, principal: Principal) -> None:
    """An admin takes a device's faults and the memory it uses now for what is usual; the next report judges it anew.

    A process that is still on it is not taken for anything. Raises `NotFound`.
    """
    node_id = session.execute(sa.select(Device.node_id).where(Device.uuid == uuid)).scalars().first()
    if node_id is None:
        raise NotFound(f"There is no device {uuid[:60]!r}.", hint="lease admin devices ls shows them.")
    # as reports do first, so that one that is being taken in just now does not undo it
    session.execute(sa.select(Node.id).where(Node.id == node_id).with_for_update(key_share=True))
    device = session.execute(
        sa.select(Device)
        .where(Device.node_id == node_id, Device.uuid == uuid)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).scalar_one()
    reason = device.quarantine_reason
    device.faults = {name: value for name, value in device.faults.items() if name != "fault"}
    device.floor_bytes = None
    events.record(
        session,
        "device.accepted",
        f"{principal.name} accepted the state of device {uuid}{f': {reason}' if reason else ''}",
        actor=principal.actor,
        node_id=node_id,
        device_id=device.id,
        data={"reason": reason},
    )


def _found(device: Device, look: Look, settings: HandoverSettings) -> str | None:
    if look.released_at is not None and (look.at is None or look.at < look.released_at):
        return NOT_LOOKED
    return leftover(
        look.report.processes,
        look.own,
        held=look.held,
        memory_used=look.report.memory_used_bytes,
        floor=device.floor_bytes,
        tolerance=settings.tolerance_bytes,
    )


def _tell(session: Session, node: Node, device: Device, kind: str, what: str) -> None:
    events.record(
        session, kind, f"{device.model} {device.uuid} on {node.name} {what}",
        actor=f"node:{node.name}", node_id=node.id, device_id=device.id,
    )  # fmt: skip
