"""Where a device's time goes: each instant of each thousandth of a device is in exactly one class.

Pure, and in whole numbers: moments are microseconds, a result is nanoseconds, for a thousandth of a device during a
microsecond is one. What is counted for two adjoining windows adds up to what is counted for both at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from uuid import UUID

from leasing.gpus import WHOLE


class DeviceClass(StrEnum):
    """Where time of a device may go. The classes sum to its capacity."""

    LEASED = "leased"
    """A lease had it, and its container ran."""
    HELD = "held"
    """Bound, and no container ran on it: starting, stopping, being cleaned, reserved, kept warm."""
    FREE = "free"
    FOREIGN = "foreign"
    """A process that no lease owns was on it."""
    OUT = "out"
    """Cordoned, quarantined, or broken."""
    UNKNOWN = "unknown"
    """Nobody looked."""


class Condition(StrEnum):
    """How a device is, apart from what is leased of it."""

    FREE = "free"
    CLEANING = "cleaning"
    RESERVED = "reserved"
    WARM = "warm"
    """Bound to a warm container."""
    FOREIGN = "foreign"
    CORDONED = "cordoned"
    QUARANTINED = "quarantined"
    BROKEN = "broken"
    """Lost or faulty."""
    UNKNOWN = "unknown"
    """Its node's sampler was silent, or the scheduler did not run."""
    ABSENT = "absent"
    """Not reported any more, or leased through its MIG instances: it has no capacity of its own."""


CLASS_OF = {
    Condition.FREE: DeviceClass.FREE,
    Condition.CLEANING: DeviceClass.HELD,
    Condition.RESERVED: DeviceClass.HELD,
    Condition.WARM: DeviceClass.HELD,
    Condition.FOREIGN: DeviceClass.FOREIGN,
    Condition.CORDONED: DeviceClass.OUT,
    Condition.QUARANTINED: DeviceClass.OUT,
    Condition.BROKEN: DeviceClass.OUT,
    Condition.UNKNOWN: DeviceClass.UNKNOWN,
    Condition.ABSENT: DeviceClass.OUT,
}
"""What is not leased of a device is in this class. An absent one counts only while a lease still has a part of it."""


@dataclass(frozen=True, order=True)
class Span:
    """From a moment until right before another, in microseconds."""

    since: int
    until: int


@dataclass(frozen=True)
class Hold:
    """A run's part of a device, for a time; `ran` is when its container ran."""

    run: UUID
    share: int
    during: Span
    ran: tuple[Span, ...]


@dataclass(frozen=True)
class Was:
    """How a device was for a time."""

    condition: Condition
    during: Span


@dataclass
class Count:
    """Nanoseconds of one device: by class, and of what was leased by run."""

    classes: dict[DeviceClass, int] = field(default_factory=lambda: dict.fromkeys(DeviceClass, 0))
    leased: dict[UUID, int] = field(default_factory=dict)

    @property
    def capacity(self) -> int:
        return sum(self.classes.values())


def classify(window: Span, *, there: int, holds: Iterable[Hold], conditions: Iterable[Was]) -> Count:
    """Count one device's time within `window`; it exists since `there`.

    What a running container has is leased, what is bound otherwise is held, and the rest is as the device was; without
    a word about that it is unknown. Should parts overlap to more than a device, as after a clock was moved back, those
    that ran and began first come first, and nothing counts twice.
    """
    count = Count()
    since = max(window.since, there)
    placed = [hold for hold in holds if hold.during.since < window.until and since < hold.during.until]
    known = [was for was in conditions if was.during.since < window.until and since < was.during.until]
    spans = [was.during for was in known]
    spans += [span for hold in placed for span in (hold.during, *hold.ran)]
    for begin, end in pairwise(_cuts(since, window.until, spans)):
        _segment(count, begin, end, placed, known)
    return count


def covered(spans: Iterable[Span], window: Span) -> int:
    """How long at least one of the spans lasts within the window, in microseconds."""
    total, reached = 0, window.since
    for span in sorted(spans):
        begin, end = max(span.since, reached), min(span.until, window.until)
        if end > begin:
            total += end - begin
            reached = end
    return total


def _cuts(since: int, until: int, spans: Sequence[Span]) -> list[int]:
    if since >= until:
        return []
    edges = {since, until}
    for span in spans:
        edges |= {edge for edge in (span.since, span.until) if since < edge < until}
    return sorted(edges)


def _segment(count: Count, begin: int, end: int, holds: Sequence[Hold], known: Sequence[Was]) -> None:
    """Nothing changes between `begin` and `end`."""
    present = [hold for hold in holds if hold.during.since <= begin < hold.during.until]
    running = {hold for hold in present if any(span.since <= begin < span.until for span in hold.ran)}
    left = WHOLE
    for hold in sorted(present, key=lambda hold: (hold not in running, hold.during, hold.run)):
        part = min(hold.share, left)
        left -= part
        time = part * (end - begin)
        if hold in running:
            count.classes[DeviceClass.LEASED] += time
            count.leased[hold.run] = count.leased.get(hold.run, 0) + time
        else:
            count.classes[DeviceClass.HELD] += time
    was = max(
        (one for one in known if one.during.since <= begin < one.during.until),
        key=lambda one: (one.during, one.condition),
        default=None,
    )
    condition = was.condition if was else Condition.UNKNOWN
    if condition is not Condition.ABSENT or present:
        count.classes[CLASS_OF[condition]] += left * (end - begin)
