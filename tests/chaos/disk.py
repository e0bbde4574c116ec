"""A disk of a test's own, small enough to be filled: a file that is mounted as a file system."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

BALLAST = "ballast"


class SmallDisk:
    """Mounted at `place` from the start. `close` takes it away, whatever still uses it."""

    def __init__(self, image: Path, place: Path, *, megabytes: int) -> None:
        self.image, self.place = image, place
        with image.open("wb") as file:
            file.truncate(megabytes * 2**20)
        make = ["mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", str(image)]
        subprocess.run(make, check=True, capture_output=True)
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True, capture_output=True)

    @staticmethod
    def possible() -> bool:
        """Whether this machine lets us mount files at all."""
        return os.geteuid() == 0 and Path("/dev/loop-control").exists()

    def fill(self) -> None:
        """Leave nothing free."""
        with (self.place / BALLAST).open("ab") as file:
            size = os.fstat(file.fileno()).st_size
            free = self.free
            while free >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), size, free)
                    size += free
                except OSError:  # the file system keeps a little of what it calls free
                    free //= 2

    def empty(self) -> None:
        """Give back what `fill` took."""
        (self.place / BALLAST).unlink(missing_ok=True)

    @property
    def free(self) -> int:
        facts = os.statvfs(self.place)
        return facts.f_bavail * facts.f_frsize

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.empty()
        subprocess.run(["umount", "-l", self.place], check=False, capture_output=True)
        self.image.unlink(missing_ok=True)
