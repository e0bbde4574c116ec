"""A stand-in for NVIDIA's hook, for an engine of a test's own: gives a container the fake devices granted to it.

The engine runs `nvidia-container-runtime-hook` from its PATH when a container asks for devices, before the container's
own program starts, with the OCI state on stdin. Like NVIDIA's, it fails on an unknown UUID, and the start with it.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

NAME = "nvidia-container-runtime-hook"
INSIDE = "/usr/lib/leasing-test-gpu"
"""Where the library and its state lie in the container."""


def install(folder: Path, library: Path, state: Path) -> None:
    """Put the hook into `folder`, which the engine's PATH shall name. It reads the state anew for each container."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / NAME
    words = [sys.executable, "-I", __file__, str(library), str(state)]
    script.write_text(f"#!/bin/sh\nexec {shlex.join(words)}\n")
    script.chmod(0o755)


def main(library: Path, state: Path) -> str | None:
    """What is wrong, if anything is."""
    bundle = Path(json.load(sys.stdin)["bundle"])
    config = json.loads((bundle / "config.json").read_text())
    environment = dict(one.partition("=")[::2] for one in config["process"]["env"])
    granted = environment["NVIDIA_VISIBLE_DEVICES"].split(",")

    lines = {line.partition("|")[0]: line for line in state.read_text().splitlines()}
    for uuid in granted:
        if uuid not in lines:
            return f"nvidia-container-cli: device error: {uuid}: unknown device"
    place = bundle / config["root"]["path"] / INSIDE.lstrip("/")
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(library, place / library.name)
    (place / "nvml.state").write_text("".join(f"{_alone(lines[uuid])}\n" for uuid in granted))
    return None


def _alone(line: str) -> str:
    """The device without links to devices that the container does not see, and without the host's processes."""
    facts = line.split("|")
    return "|".join([*facts[:11], "-", "-", *facts[13:]])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
