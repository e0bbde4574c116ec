"""A tiny image for tests: the machine's own static busybox, so that no registry is needed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

BUSYBOX = "leasing-test/busybox:1"


def ensure_busybox(address: str | None = None) -> str:
    """The image's name, made on that engine (the machine's own if none is named) where it is absent."""
    docker = ["docker", *(["-H", address] if address else [])]
    if (
        subprocess.run([*docker, "image", "inspect", BUSYBOX], capture_output=True, check=False).returncode
        == 0
    ):
        return BUSYBOX
    busybox = shutil.which("busybox")
    assert busybox is not None, "python -m leasing.host setup --for-tests installs it"
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "root")
        for folder in ("bin", "etc", "tmp"):
            (root / folder).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
        shutil.copy2(busybox, root / "bin/busybox")
        for applet in subprocess.check_output([busybox, "--list"], text=True).split():
            if applet != "busybox":
                (root / "bin" / applet).symlink_to("busybox")
        packed = Path(scratch, "root.tar")
        subprocess.run(["tar", "-C", root, "-cf", packed, "."], check=True)
        subprocess.run([*docker, "import", packed, BUSYBOX], check=True, capture_output=True)
    return BUSYBOX
