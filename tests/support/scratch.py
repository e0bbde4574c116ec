"""Where tests write: in memory, where the machine has room for that. Disks that sync are most of what databases and
engines take, and nothing here need outlive its test."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM = 4 * 2**30


def folder(prefix: str) -> Path:
    """A new folder that other users may enter, as PostgreSQL has to: pytest's own are closed. The caller removes it."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if _usable() else None))
    made.chmod(0o711)
    return made


def _usable() -> bool:
    if not MEMORY.is_dir():
        return False
    facts = os.statvfs(MEMORY)
    return facts.f_bavail * facts.f_frsize >= ROOM and not facts.f_flag & os.ST_NOEXEC
