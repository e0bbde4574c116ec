"""Does a container still see its devices? Judged by what `nvidia-smi` says inside it.

A container can lose its devices without a word: `systemctl daemon-reload` takes the permissions away that NVIDIA's hook
gave (nvidia-container-toolkit issue 48), and a new driver answers old libraries with a mismatch. What runs may go on
for a while; what starts anew finds no device.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

LOOK = ("nvidia-smi", "-L")
NO_SUCH_PROGRAM = (126, 127)
UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z-]+")
LONGEST = 200


@dataclass(frozen=True)
class Sight:
    """What was seen from inside. `known` is False where nothing can be told; `fault` is empty while all is well."""

    known: bool
    fault: str = ""


def judge(exit_code: int | None, output: str, uuids: Collection[str]) -> Sight:
    """What `LOOK` says of a container that was given the devices `uuids`; no exit code: it was cut off.

    An image without the program says nothing. One that does not end in its time hangs in the driver.
    """
    if exit_code in NO_SUCH_PROGRAM:
        return Sight(known=False)
    if exit_code is None:
        return Sight(known=True, fault="nvidia-smi inside the container does not come back")
    said = next((line.strip() for line in output.splitlines() if line.strip()), "")[:LONGEST]
    if exit_code != 0:
        return Sight(
            known=True, fault=f"nvidia-smi inside the container fails: {said or f'exit code {exit_code}'}"
        )
    missing = sorted(set(uuids) - set(UUID.findall(output)))
    if missing:
        return Sight(
            known=True, fault=f"inside the container {' and '.join(missing)} cannot be seen any more"
        )
    return Sight(known=True)
