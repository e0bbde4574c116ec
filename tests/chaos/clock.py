"""A database whose clock can be moved while it runs.

The database's clock is the only "now" that the platform has, so moving that moves everything. Nothing is faked in
PostgreSQL itself: a small library (`tests/fakes/clock.c`) stands between it and the C library's clock.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from leasing.host.account import Account
from leasing.host.postgres import OwnPostgres

SOURCE = Path(__file__).parent.parent / "fakes" / "clock.c"


class Clock:
    """So far ahead of the machine's (behind, if negative) as it was moved, in seconds."""

    def __init__(self, folder: Path) -> None:
        self.library = folder / "clock.so"
        self.file = folder / "clock.offset"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", self.library, SOURCE, "-ldl"], check=True)
        self.seconds = 0.0
        self.file.write_bytes(struct.pack("=q", 0))
        for path in (self.library, self.file):
            path.chmod(0o755)  # PostgreSQL runs as another user

    def move(self, seconds: float) -> None:
        """By so much, at once."""
        self.seconds += seconds
        with self.file.open("r+b") as out:  # in place: who has mapped it sees it
            out.write(struct.pack("=q", int(self.seconds * 1e9)))


class ClockedAccount(Account):
    """Starts servers under that clock."""

    clock: Clock

    def start(
        self,
        command: Sequence[str | Path],
        output: IO[bytes] | None,
        *,
        pass_fds: Sequence[int] = (),
        parting: str = "INT",
    ) -> subprocess.Popen[bytes]:
        preload = ("env", f"LD_PRELOAD={self.clock.library}", f"FAKE_CLOCK={self.clock.file}")
        return super().start([*preload, *command], output, pass_fds=pass_fds, parting=parting)


def put_under(server: OwnPostgres, clock: Clock) -> None:
    """From its next start on, the server lives by `clock`."""
    own = server._account
    account = ClockedAccount(own.name, own.uid, own.gid)
    object.__setattr__(account, "clock", clock)  # it is frozen, as it should be everywhere else
    server._account = account
