"""What has become of a running lease's container, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from leasing.states import EndReason


class Fate(StrEnum):
    """What reconciling does about a running lease."""

    KEEP = "keep"
    RESTART = "restart"
    """It went down with its engine: the same run again."""
    STOP = "stop"
    """Its command is over: clean up and end it."""
    AWAIT = "await"
    """Its engine, started anew, does not know it: its disk may not be mounted yet."""
    LOST = "lost"
    """The engine does not know it any more."""


@dataclass(frozen=True)
class Seen:
    """A container as it was found. `epoch` is the engine's, read *after* the container, over a fresh connection."""

    present: bool
    running: bool
    epoch: str | None
    exit_code: int | None = None
    oom_killed: bool = False
    error: str | None = None
    networked: bool = True
    """Whether what holds its network runs."""
    awaited_until: datetime | None = None
    """Of one that is missing: until when it may yet come back, should its engine have been started anew since."""


@dataclass(frozen=True)
class Outcome:
    fate: Fate
    reason: EndReason | None = None
    message: str = ""


def of(seen: Seen, run_epoch: str | None) -> Outcome:
    """The outcome for a lease whose container was started under `run_epoch`.

    A death under another epoch is a restart, whatever its exit code: an engine that goes down stops its containers,
    and many applications answer that with exit code 0. One that is missing under another epoch may only be on a disk
    that is not mounted yet, and is given time; under its own, somebody removed it.
    """
    if not seen.present:
        if seen.epoch != run_epoch and seen.awaited_until is not None:
            return Outcome(
                Fate.AWAIT,
                message="its engine was started anew and does not know its container; it is lost unless that is back "
                f"by {seen.awaited_until:%Y-%m-%d %H:%M %Z}",
            )
        return Outcome(Fate.LOST, EndReason.LOST, "its container is gone, and the platform did not remove it")
    if seen.running:
        # It runs on, and nobody reaches it any more.
        return Outcome(Fate.KEEP) if seen.networked else Outcome(Fate.RESTART, message="its network was gone")
    if seen.epoch != run_epoch:
        return Outcome(Fate.RESTART, message="its engine or machine restarted")
    if seen.oom_killed:
        return Outcome(
            Fate.STOP,
            EndReason.FAILED,
            "it ran out of memory and was killed by the kernel; ask for more with --memory",
        )
    if seen.exit_code == 0:
        return Outcome(Fate.STOP, EndReason.COMPLETED, "its command finished")
    if seen.exit_code == 127:
        return Outcome(Fate.STOP, EndReason.FAILED, "its command is not in the image (exit code 127)")
    because = f": {seen.error}" if seen.error else ""
    return Outcome(Fate.STOP, EndReason.FAILED, f"its command ended with exit code {seen.exit_code}{because}")
