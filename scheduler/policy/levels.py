"""What is kept of a lease that is suspended, in words: never more than is so. Pure."""

from __future__ import annotations

CHECKPOINTING_SINCE = 550
"""The driver from which on NVIDIA's cuda-checkpoint can park a process's GPU state in its memory."""
FILES = "its files; processes start anew"


def driver_can(version: str | None) -> bool:
    """Whether a driver of that version ("550.54.15") can park GPU state; of an unknown one it cannot be said."""
    return _major(version) >= CHECKPOINTING_SINCE


def kept(*, devices: bool, driver_version: str | None, tool: bool) -> str:
    """Of a lease whose container is stopped. Parked GPU state lives in its process's memory, which a stop ends: so it
    is the files in any case, and where somebody might hope for more it is said why not."""
    if not devices:
        return FILES
    if driver_version is None:
        why = "its node's driver is not known"
    elif not driver_can(driver_version):
        why = f"driver {driver_version} is older than {CHECKPOINTING_SINCE}"
    elif not tool:
        why = "it is not in the container"
    else:
        why = "it is there, and parks GPU state only of processes that live on, which a stop ends"
    return f"{FILES} (cuda-checkpoint: {why})"


def _major(version: str | None) -> int:
    digits = (version or "").partition(".")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else 0
