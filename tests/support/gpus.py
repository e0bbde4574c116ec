"""An image whose program says which GPUs it sees."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from leasing.drivers.protocol import Lifecycle
from tests.support import hook
from tests.support.images import BUSYBOX

IMAGE = "leasing-test/gpus:2"
SOURCE = Path(__file__).parent.parent / "fakes" / "gpus.c"
SHOW = ("/bin/gpus", f"{hook.INSIDE}/libnvidia-ml.so.1")
"""The command that prints the UUIDs of the GPUs that NVML shows it, one a line."""


def ensure_image(driver: Lifecycle) -> str:
    """The image's name, made where it is absent: busybox, which is there, the program, and the machine's C library."""
    if driver.find_image(IMAGE) is None:
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch, "root")
            (root / "bin").mkdir(parents=True)
            subprocess.run(["gcc", "-O1", "-o", root / "bin/gpus", SOURCE], check=True)
            listed = subprocess.check_output(["ldd", root / "bin/gpus"], text=True)
            for library in re.findall(r"(/\S+)", listed.partition("\n")[2]):
                (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, root / library[1:])
            (root / "bin/nvidia-smi").write_text(f"#!/bin/sh\nexec {' '.join(SHOW)}\n")
            (root / "bin/nvidia-smi").chmod(0o755)
            Path(scratch, "Dockerfile").write_text(f"FROM {BUSYBOX}\nCOPY root/ /\n")
            driver.build_image(
                Path(scratch), tag=IMAGE, build_args={}, labels={}, extra_files={}, progress=lambda _: None
            )
    return IMAGE
